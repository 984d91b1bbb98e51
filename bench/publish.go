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

// measurePublish compares publishing with one EVALSHA that does the least, and
// with a PUBLISH that keeps nothing. All make JSON of the same event.
func measurePublish(ctx context.Context, s *scope, e effort) ([]row, error) {
	server := redistest.Start(s)
	system := newNotifications(s, newOurs(s, server))
	plain := newPlain(s, server)
	script := redis.NewScript(peerPublish)
	if err := script.Load(ctx, plain).Err(); err != nil {
		return nil, fmt.Errorf("load script: %w", err)
	}
	ev := newEvent()
	contenders := []contender{
		{"ours", func(ctx context.Context, _ int) error { return system.Publish(ctx, channel, ev) }},
		{"EVALSHA", func(ctx context.Context, _ int) error {
			payload, err := json.Marshal(ev)
			if err != nil {
				return err
			}
			return script.EvalSha(ctx, plain, []string{"bench:journal"}, historySize, channel, payload).Err()
		}},
		{"PUBLISH", func(ctx context.Context, _ int) error {
			payload, err := json.Marshal(ev)
			if err != nil {
				return err
			}
			return plain.Publish(ctx, channel, payload).Err()
		}},
	}
	alone, err := e.runRace(ctx, 1, contenders...)
	if err != nil {
		return nil, err
	}
	many, err := e.runRace(ctx, 64, contenders...)
	if err != nil {
		return nil, err
	}
	return []row{
		{
			what: "publish with history, one caller: time", against: "EVALSHA of XADD + PUBLISH",
			goal: atMost(1.10), value: alone.times(1), unit: "×",
			detail: alone.both(1),
		},
		{
			what: "publish with history, one caller: time", against: "raw PUBLISH, no history",
			goal: noGoal(), value: alone.times(2), unit: "×",
			detail: alone.both(2),
		},
		{
			what: "publish with history, 64 callers: throughput", against: "EVALSHA of XADD + PUBLISH",
			goal: atLeast(2), value: many.throughput(1), unit: "×",
			detail: rates(many, 1),
		},
		{
			what: "publish with history, 64 callers: throughput", against: "raw PUBLISH, no history",
			goal: noGoal(), value: many.throughput(2), unit: "×",
			detail: rates(many, 2),
		},
	}, nil
}

// rates returns the operations per second of the first contender and of a peer.
func rates(r *race, peer int) string {
	perSecond := func(i int) float64 { return 1e9 / float64(r.perOp(i)) }
	return fmt.Sprintf("%.0f/s; %.0f/s", perSecond(0), perSecond(peer))
}

// measureLatency compares the time from before a publish until the message has
// been received, with one message on its way at a time.
func measureLatency(ctx context.Context, s *scope, e effort) ([]row, error) {
	server := redistest.Start(s)
	system := newNotifications(s, newOurs(s, server))
	plain := newPlain(s, server)
	ev := newEvent()

	messages := []<-chan *notification.Message{system.Subscribe(ctx, channel).Messages()}
	raw := plain.Subscribe(ctx, "bench:raw")
	s.Cleanup(func() { _ = raw.Close() })
	if _, err := raw.Receive(ctx); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	fed := plain.Subscribe(ctx, "bench:chan")
	s.Cleanup(func() { _ = fed.Close() })
	if _, err := fed.Receive(ctx); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	passed := fed.Channel()
	e.rounds *= 3 // from one turn to the next this varies more than any other row
	result, err := e.runRace(ctx, 1,
		contender{"ours", func(ctx context.Context, _ int) error {
			if err := system.Publish(ctx, channel, ev); err != nil {
				return err
			}
			return drain(ctx, messages)
		}},
		contender{"PUBLISH → ReceiveMessage", func(ctx context.Context, _ int) error {
			payload, err := json.Marshal(ev)
			if err != nil {
				return err
			}
			if err := plain.Publish(ctx, "bench:raw", payload).Err(); err != nil {
				return err
			}
			_, err = raw.ReceiveMessage(ctx)
			return err
		}},
		contender{"raw PUBLISH → Channel", func(ctx context.Context, _ int) error {
			payload, err := json.Marshal(ev)
			if err != nil {
				return err
			}
			if err := plain.Publish(ctx, "bench:chan", payload).Err(); err != nil {
				return err
			}
			select {
			case <-passed:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}},
	)
	if err != nil {
		return nil, err
	}
	return []row{{
		what: "publish → receive: latency", against: "raw PUBLISH → ReceiveMessage",
		goal: atMost(1.25), value: result.times(1), unit: "×",
		detail: result.both(1),
	}, {
		what: "publish → receive: latency", against: "raw PUBLISH → Channel of go-redis",
		goal: noGoal(), value: result.times(2), unit: "×",
		detail: result.both(2),
	}}, nil
}
