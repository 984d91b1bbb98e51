package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// peerRelease is the least a script that releases a lock can do.
//
//go:embed peers/release.lua
var peerRelease string

const (
	lockTTL     = 30 * time.Second
	lockCallers = 64
)

// newManager returns a lock manager on a client of its own.
func newManager(s *scope, client redis.UniversalClient) *lock.RedisLockManager {
	manager, err := lock.NewRedisLockManager(client)
	if err != nil {
		s.Fatalf("make lock manager: %v", err)
	}
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = manager.Close(ctx)
	})
	return manager
}

// resource returns the name of what a caller locks: each its own.
func resource(kind string, caller int) string { return kind + ":" + strconv.Itoa(caller) }

// lockContenders acquire and release a free lock.
func lockContenders(ctx context.Context, s *scope, _ *redistest.Server, addr string) ([]contender, error) {
	raw, err := rawLock(ctx, s, addr)
	return []contender{oursLock(s, addr), raw}, err
}

// measureLock compares acquiring and releasing free locks by many callers.
func measureLock(ctx context.Context, s *scope, e effort) (report, error) {
	server := redistest.Start(s)
	raw, err := rawLock(ctx, s, server.Addr())
	if err != nil {
		return report{}, err
	}
	rueidisLock, err := rueidisLock(s, server)
	if err != nil {
		return report{}, err
	}
	ours := oursLock(s, server.Addr())
	many, err := e.runRace(ctx, lockCallers, ours, redsyncLock(s, server), redisLock(s, server), rueidisLock, raw)
	if err != nil {
		return report{}, err
	}
	var rows []row
	for i, bound := range []goal{atLeast(2.5), atLeast(2.5), atLeast(1.3), noGoal()} {
		rows = append(rows, row{
			what: "acquire + release, 64 callers: throughput", against: many.names[i+1],
			goal: bound, value: many.throughput(i + 1), unit: "×", detail: rates(many, i+1),
		})
	}
	return report{rows: rows}, nil
}

func oursLock(s *scope, addr string) contender {
	manager := newManager(s, newOursAt(s, addr))
	return contender{"ours", func(ctx context.Context, caller int) error {
		held, err := manager.Acquire(ctx, resource("ours", caller), lockTTL)
		if err != nil {
			return err
		}
		return held.Release(ctx)
	}}
}

// rawLock does without any library what cannot be left out.
func rawLock(ctx context.Context, s *scope, addr string) (contender, error) {
	client := newPlainAt(s, addr)
	script := redis.NewScript(peerRelease)
	if err := script.Load(ctx, client).Err(); err != nil {
		return contender{}, fmt.Errorf("load script: %w", err)
	}
	return contender{"SET NX PX + EVALSHA on go-redis", func(ctx context.Context, caller int) error {
		key := resource("raw", caller)
		free, err := client.SetNX(ctx, key, key, lockTTL).Result()
		if err != nil {
			return err
		}
		if !free {
			return errors.New("not free")
		}
		return script.EvalSha(ctx, client, []string{key}, key).Err()
	}}, nil
}

func redsyncLock(s *scope, server *redistest.Server) contender {
	rs := redsync.New(goredis.NewPool(newPlain(s, server)))
	return contender{"redsync with its own pool", func(ctx context.Context, caller int) error {
		mutex := rs.NewMutex(resource("redsync", caller), redsync.WithExpiry(lockTTL), redsync.WithTries(1))
		if err := mutex.LockContext(ctx); err != nil {
			return err
		}
		_, err := mutex.UnlockContext(ctx)
		return err
	}}
}

func redisLock(s *scope, server *redistest.Server) contender {
	client := redislock.New(newPlain(s, server))
	return contender{"redislock", func(ctx context.Context, caller int) error {
		held, err := client.Obtain(ctx, resource("redislock", caller), lockTTL, nil)
		if err != nil {
			return err
		}
		return held.Release(ctx)
	}}
}

// rueidisLock is set up for one key per lock, as with all others, and as fast
// as it can be on Redis 7.
func rueidisLock(s *scope, server *redistest.Server) (contender, error) {
	locker, err := rueidislock.NewLocker(rueidislock.LockerOption{
		ClientOption:   rueidis.ClientOption{InitAddress: []string{server.Addr()}},
		KeyMajority:    1,
		KeyValidity:    lockTTL,
		NoLoopTracking: true,
		// The default of 20 ms would make it fail on a busy machine.
		TryNextAfter: 5 * time.Second,
	})
	if err != nil {
		return contender{}, fmt.Errorf("make rueidislock: %w", err)
	}
	s.Cleanup(locker.Close)
	return contender{"rueidislock", func(ctx context.Context, caller int) error {
		_, release, err := locker.TryWithContext(ctx, resource("rueidislock", caller))
		if err != nil {
			return err
		}
		release() // returns when the key is gone
		return nil
	}}, nil
}

// refusedContenders are refused: a lock that another manager holds, and a key that is there.
func refusedContenders(ctx context.Context, s *scope, server *redistest.Server, addr string) ([]contender, error) {
	holder := newManager(s, newOurs(s, server))
	if _, err := holder.Acquire(ctx, "held", lockTTL); err != nil {
		return nil, err
	}
	client := newPlainAt(s, addr)
	if err := client.Set(ctx, "raw-held", "value", 0).Err(); err != nil {
		return nil, err
	}
	taker := newManager(s, newOursAt(s, addr))
	return []contender{
		{"ours", func(ctx context.Context, _ int) error {
			if _, err := taker.Acquire(ctx, "held", lockTTL); !errors.Is(err, lock.ErrLockNotAcquired) {
				return fmt.Errorf("not refused: %w", err)
			}
			return nil
		}},
		{"one SET NX", func(ctx context.Context, _ int) error {
			free, err := client.SetNX(ctx, "raw-held", "value", lockTTL).Result()
			if err == nil && free {
				err = errors.New("not refused")
			}
			return err
		}},
	}, nil
}
