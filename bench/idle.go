package main

import (
	"context"
	"errors"
	"time"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

const (
	idleTTL = time.Hour
	// idleSpan is one sample, with one heartbeat of the subscription in it.
	idleSpan    = 3 * time.Second
	idleSamples = 7
)

// measureIdle measures what a process that does nothing costs a server: one subscription, and one lock that is held. A
// server without clients works a little as well, which is measured at the same time and taken off.
func measureIdle(ctx context.Context, s *scope, e effort) (report, error) {
	// With the default of ten times a second, the chores of the servers would drown what is measured.
	servers := redistest.StartN(s, 2, redistest.WithConfig("hz", "1"))
	client := newOursAt(s, servers[0].Addr())
	subscription, ok := newNotifications(s, client).Subscribe(ctx, channel).(*notification.Subscription)
	if !ok {
		return report{}, errors.New("not a subscription of ours")
	}
	if _, err := newManager(s, client).Acquire(ctx, "idle", idleTTL); err != nil {
		return report{}, err
	}
	if err := pause(ctx, idleSpan/2); err != nil { // connections are made and scripts loaded
		return report{}, err
	}
	samples := make([]float64, min(e.rounds, idleSamples))
	for i := range samples {
		before := servers[0].CPU(s) - servers[1].CPU(s)
		if err := pause(ctx, idleSpan); err != nil {
			return report{}, err
		}
		used := servers[0].CPU(s) - servers[1].CPU(s) - before
		samples[i] = float64(used.Microseconds()) / idleSpan.Seconds()
	}
	if err := subscription.Err(); err != nil {
		return report{}, err
	}
	return report{rows: []row{{
		what: "idle process, one subscription and one lock: server CPU", against: "a server without clients",
		goal: atMost(100), value: spreadOf(samples), unit: "µs/s", detail: "added to it",
	}}}, nil
}
