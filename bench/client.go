package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// newPlain returns a go-redis client with the pool and the timeouts that our
// client has by default, so that only what we add is different.
func newPlain(s *scope, server *redistest.Server) *redis.Client {
	return newPlainAt(s, server.Addr())
}

func newPlainAt(s *scope, addr string) *redis.Client {
	cfg := config.Default()
	plain := redis.NewClient(&redis.Options{
		Addr:                  addr,
		PoolSize:              cfg.PoolSize,
		MaxIdleConns:          cfg.MaxIdleConns,
		MinIdleConns:          cfg.MinIdleConns,
		DialTimeout:           cfg.DialTimeout,
		ReadTimeout:           cfg.ReadTimeout,
		WriteTimeout:          cfg.WriteTimeout,
		PoolTimeout:           cfg.PoolTimeout,
		ContextTimeoutEnabled: true,
		// As in our client: Redis itself knows no such notifications.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	s.Cleanup(func() { _ = plain.Close() })
	return plain
}

// newOurs returns our client, connected.
func newOurs(s *scope, server *redistest.Server) *client.Redis {
	return newOursAt(s, server.Addr())
}

func newOursAt(s *scope, addr string) *client.Redis {
	cfg := config.Default()
	cfg.URL = "redis://" + addr
	ours, err := client.New(cfg)
	if err != nil {
		s.Fatalf("make client: %v", err)
	}
	s.Cleanup(func() { _ = ours.Close() })
	ours.Open()
	return ours
}

// measureClient compares our client with go-redis by one command and by a
// pipeline of ten.
func measureClient(ctx context.Context, s *scope, e effort) (report, error) {
	server := redistest.Start(s)
	ours, plain := newOurs(s, server), newPlain(s, server)

	if err := plain.Set(ctx, "key", "value", 0).Err(); err != nil {
		return report{}, err
	}

	get := func(c redis.UniversalClient) func(context.Context, int) error {
		return func(ctx context.Context, _ int) error { return c.Get(ctx, "key").Err() }
	}
	set := func(c redis.UniversalClient) func(context.Context, int) error {
		return func(ctx context.Context, _ int) error { return c.Set(ctx, "other", "value", 0).Err() }
	}
	pipeline := func(c redis.UniversalClient) func(context.Context, int) error {
		return func(ctx context.Context, _ int) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
				for range 10 {
					p.Set(ctx, "other", "value", 0)
				}
				return nil
			})
			return err
		}
	}

	var rows []row
	for _, test := range []struct {
		name string
		op   func(redis.UniversalClient) func(context.Context, int) error
	}{
		{"GET", get}, {"SET", set}, {"pipeline of 10 SET", pipeline},
	} {
		result, err := e.runRace(ctx, 1, contender{"our client", test.op(ours)}, contender{"go-redis", test.op(plain)})
		if err != nil {
			return report{}, err
		}
		rows = append(rows, row{
			what: "client wrapper: " + test.name + ", time", against: "go-redis",
			goal: noGoal(), value: result.times(1), unit: "×",
			detail: result.both(1),
		}, row{
			what: "client wrapper: " + test.name + ", processor time", against: "go-redis",
			goal: noGoal(), value: result.work(1), unit: "×",
			detail: pair(result.busy),
		})
		our := allocations(ctx, test.op(ours))
		their := allocations(ctx, test.op(plain))
		rows = append(rows, row{
			what: "client wrapper: " + test.name + ", allocations added", against: "go-redis",
			goal: atMost(0), value: count(our - their), unit: "per op",
			detail: fmt.Sprintf("%s; %s", number(our), number(their)),
		})
	}
	return report{rows: rows}, nil
}

// allocations returns how many objects one operation allocates.
func allocations(ctx context.Context, op func(context.Context, int) error) float64 {
	return testing.AllocsPerRun(500, func() {
		if err := op(ctx, 0); err != nil {
			panic(fatal{err})
		}
	})
}
