package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// peerPublish is the least a script with a journal can do.
//
//go:embed peers/publish.lua
var peerPublish string

const (
	channel = "bench:events"
	// historySize is the default of the notification system.
	historySize = 10000
)

// event is what is published: 256 bytes of JSON or so.
type event struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Data   string `json:"data"`
}

func newEvent() event {
	data := make([]byte, 200)
	for i := range data {
		data[i] = byte('a' + i%26)
	}
	return event{ID: "workflow-1", Status: "completed", Data: string(data)}
}

// newNotifications returns a notification system on a client of its own.
func newNotifications(s *scope, client redis.UniversalClient) *notification.RedisNotificationSystem {
	system, err := notification.NewRedisNotificationSystem(client)
	if err != nil {
		s.Fatalf("make notification system: %v", err)
	}
	s.Cleanup(func() { _ = system.Close() })
	return system
}

// publishContenders publish, with one EVALSHA that does the least and with a PUBLISH that keeps nothing as peers. All make
// JSON of the same event.
func publishContenders(ctx context.Context, s *scope, _ *redistest.Server, addr string) ([]contender, error) {
	system := newNotifications(s, newOursAt(s, addr))
	plain := newPlainAt(s, addr)
	script := redis.NewScript(peerPublish)
	if err := script.Load(ctx, plain).Err(); err != nil {
		return nil, fmt.Errorf("load script: %w", err)
	}
	ev := newEvent()
	return []contender{
		{"ours", func(ctx context.Context, _ int) error { return system.Publish(ctx, channel, ev) }},
		{"EVALSHA of XADD + PUBLISH", func(ctx context.Context, _ int) error {
			payload, err := json.Marshal(ev)
			if err != nil {
				return err
			}
			return script.EvalSha(ctx, plain, []string{"bench:journal"}, historySize, channel, payload).Err()
		}},
		{"raw PUBLISH, no history", func(ctx context.Context, _ int) error { return rawPublish(ctx, plain, channel, ev) }},
	}, nil
}

// rawPublish is what all do who have no history.
func rawPublish(ctx context.Context, client *redis.Client, name string, ev event) error {
	payload, err := json.Marshal(ev)
	if err != nil {
		return err
	}
	return client.Publish(ctx, name, payload).Err()
}

// measurePublish compares publishing by many callers.
func measurePublish(ctx context.Context, s *scope, e effort) (report, error) {
	server := redistest.Start(s)
	contenders, err := publishContenders(ctx, s, server, server.Addr())
	if err != nil {
		return report{}, err
	}
	many, err := e.runRace(ctx, 64, contenders...)
	if err != nil {
		return report{}, err
	}
	var rows []row
	for i, bound := range []goal{atLeast(2), noGoal()} {
		rows = append(rows, row{
			what: "publish with history, 64 callers: throughput", against: many.names[i+1],
			goal: bound, value: many.throughput(i + 1), unit: "×", detail: rates(many, i+1),
		})
	}
	return report{rows: rows}, nil
}

// rates returns the operations per second of the first contender and of a peer.
func rates(r *race, peer int) string {
	perSecond := func(i int) float64 { return 1e9 / float64(r.perOp(i)) }
	return fmt.Sprintf("%.0f/s; %.0f/s", perSecond(0), perSecond(peer))
}

// latencyContenders publish a message and wait until it has been received, with one on its way at a time.
func latencyContenders(ctx context.Context, s *scope, _ *redistest.Server, addr string) ([]contender, error) {
	system := newNotifications(s, newOursAt(s, addr))
	plain := newPlainAt(s, addr)
	messages := []<-chan *notification.Message{system.Subscribe(ctx, channel).Messages()}
	read, err := rawSubscribe(ctx, s, plain, "bench:raw")
	if err != nil {
		return nil, err
	}
	fed, err := rawSubscribe(ctx, s, plain, "bench:chan")
	if err != nil {
		return nil, err
	}
	passed := fed.Channel()
	ev := newEvent()
	return []contender{
		{"ours", func(ctx context.Context, _ int) error {
			if err := system.Publish(ctx, channel, ev); err != nil {
				return err
			}
			return drain(ctx, messages)
		}},
		{"raw PUBLISH → Channel of go-redis", func(ctx context.Context, _ int) error {
			if err := rawPublish(ctx, plain, "bench:chan", ev); err != nil {
				return err
			}
			select {
			case <-passed:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}},
		{"raw PUBLISH → ReceiveMessage", func(ctx context.Context, _ int) error {
			if err := rawPublish(ctx, plain, "bench:raw", ev); err != nil {
				return err
			}
			_, err := read.ReceiveMessage(ctx)
			return err
		}},
	}, nil
}

// rawSubscribe returns when the server has confirmed the subscription.
func rawSubscribe(ctx context.Context, s *scope, client *redis.Client, name string) (*redis.PubSub, error) {
	subscription := client.Subscribe(ctx, name)
	s.Cleanup(func() { _ = subscription.Close() })
	if _, err := subscription.Receive(ctx); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return subscription, nil
}
