package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

const (
	// oneWay makes a link of 20 ms: 10 ms there and 10 ms back.
	oneWay = 10 * time.Millisecond
	// settle is enough for a waiter to be queued, over the link too.
	settle = 150 * time.Millisecond
	// keep is how long each of many waiters has the lock.
	keep         = 20 * time.Millisecond
	handOffLimit = 30 * time.Second
	waiters      = 50
)

// measureHandOff measures what passing a lock on takes: round trips over a
// slow link, and commands when many wait.
func measureHandOff(ctx context.Context, s *scope, e effort) (report, error) {
	ctx, cancel := context.WithTimeout(ctx, handOffLimit)
	defer cancel()
	trips, detail, err := handOffTrips(ctx, s, e)
	if err != nil {
		return report{}, fmt.Errorf("over a link: %w", err)
	}
	commands, names, err := handOffCommands(ctx, s)
	if err != nil {
		return report{}, fmt.Errorf("%d waiters: %w", waiters, err)
	}
	return report{rows: []row{
		{
			what: "release → next holder, 10 ms each way", against: "PING over the same link",
			goal: atMost(2.1), value: trips, unit: "round trips", detail: detail,
		},
		{
			what: "50 waiters in 50 managers: per hand-off", against: "–",
			goal: atMost(4), value: count(commands), unit: "commands", detail: names,
		},
	}}, nil
}

// handOffTrips passes a lock back and forth between two managers, each at its
// own end of a slow link, and returns the time from before the release until
// the other manager has the lock, in round trips of the link.
func handOffTrips(ctx context.Context, s *scope, e effort) (trips spread, detail string, err error) {
	server := redistest.Start(s)
	proxies := []*faultproxy.Proxy{faultproxy.New(s, server.Addr()), faultproxy.New(s, server.Addr())}
	managers := make([]*lock.RedisLockManager, len(proxies))
	for i, proxy := range proxies {
		proxy.SetLatency(oneWay)
		managers[i] = newManager(s, newPlainAt(s, proxy.Addr()))
	}
	pinger := newPlainAt(s, proxies[0].Addr())

	held, err := managers[0].AcquireWait(ctx, "passed", lockTTL)
	if err != nil {
		return spread{}, "", err
	}
	var ratios, handOffs, pings []float64
	for round := range min(e.rounds, 31) + 1 {
		begun := time.Now()
		if err := pinger.Ping(ctx).Err(); err != nil {
			return spread{}, "", err
		}
		ping := time.Since(begun)

		next := waitFor(ctx, managers[(round+1)%2], "passed")
		if err := pause(ctx, settle); err != nil {
			return spread{}, "", err
		}
		begun = time.Now()
		released := make(chan error, 1)
		go func() { released <- held.Release(ctx) }()
		got := <-next
		if err := errors.Join(got.err, <-released); err != nil {
			return spread{}, "", err
		}
		held = got.lock
		if round == 0 {
			continue // connections were made and scripts loaded
		}
		handOff := got.at.Sub(begun)
		ratios = append(ratios, float64(handOff)/float64(ping))
		handOffs = append(handOffs, float64(handOff))
		pings = append(pings, float64(ping))
	}
	detail = duration(time.Duration(median(handOffs))) + "; " + duration(time.Duration(median(pings)))
	return spreadOf(ratios), detail, held.Release(ctx)
}

// grant is what a waiter got, and when.
type grant struct {
	lock lock.FencedLock
	at   time.Time
	err  error
}

// waitFor queues for a lock.
func waitFor(ctx context.Context, manager *lock.RedisLockManager, name string) <-chan grant {
	granted := make(chan grant, 1)
	go func() {
		held, err := manager.AcquireWait(ctx, name, lockTTL)
		granted <- grant{held, time.Now(), err}
	}()
	return granted
}

// pause waits unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// handOffCommands lets as many managers queue for one lock, each with a client
// of its own, passes the lock through all of them, and returns the commands
// that all clients together sent per hand-off, in all and by name.
func handOffCommands(ctx context.Context, s *scope) (perHandOff float64, names string, err error) {
	server := redistest.Start(s)
	first, err := newManager(s, newPlain(s, server)).AcquireWait(ctx, "popular", lockTTL)
	if err != nil {
		return 0, "", err
	}
	failures := make(chan error, waiters)
	for range waiters {
		manager := newManager(s, newPlain(s, server))
		go func() {
			held, err := manager.AcquireWait(ctx, "popular", lockTTL)
			if err == nil {
				// What is to be done with a new lock, such as extending it,
				// belongs to the hand-off and must not be cut short.
				err = errors.Join(pause(ctx, keep), held.Release(ctx))
			}
			failures <- err
		}()
	}
	if err := quiet(ctx, s, server); err != nil {
		return 0, "", err
	}
	traffic, err := startMonitor(s, server)
	if err != nil {
		return 0, "", err
	}
	err = first.Release(ctx)
	for range waiters {
		err = errors.Join(err, <-failures)
	}
	if err != nil {
		return 0, "", err
	}
	commands, err := traffic.stop(ctx, newPlain(s, server))
	if err != nil {
		return 0, "", err
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		perHandOff += float64(commands[name]) / waiters
		parts = append(parts, number(float64(commands[name])/waiters)+" "+name)
	}
	return perHandOff, strings.Join(parts, ", "), nil
}

// quiet waits until all waiters have queued: until no script has been run for a
// while. Waiters that ask again and again never come to rest; they are not
// waited for long.
func quiet(ctx context.Context, s *scope, server *redistest.Server) error {
	before := int64(-1)
	for range 10 {
		scripts := server.Commands(s)["evalsha"]
		if scripts == before && scripts > 0 {
			break
		}
		before = scripts
		if err := pause(ctx, 3*settle); err != nil {
			return err
		}
	}
	return nil
}
