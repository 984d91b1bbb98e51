package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

const (
	heldLocks = 10000
	fewLocks  = 100
	// heldTTL makes a round of renewals begin a third of it after the locks
	// have been acquired.
	heldTTL = 9 * time.Second
)

// pipelineTimer measures for how long a client is busy with pipelines.
type pipelineTimer struct {
	redistest.Hook

	mu       sync.Mutex // protects what follows
	active   int
	since    time.Time // when active became 1
	busy     time.Duration
	renewals int
}

// ProcessPipelineHook adds up time and renewals. Pipelines at the same time
// count once.
func (p *pipelineTimer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		p.mu.Lock()
		if p.active++; p.active == 1 {
			p.since = time.Now()
		}
		p.mu.Unlock()
		err := next(ctx, cmds)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.active--; p.active == 0 {
			p.busy += time.Since(p.since)
		}
		for _, cmd := range cmds {
			// EVALSHA, hash, number of keys: one key is one lock.
			if n, ok := cmd.Args()[2].(int); ok {
				p.renewals += n
			}
		}
		return err
	}
}

// watched is a client whose lock manager renews on connections that a timer
// watches.
type watched struct {
	redis.UniversalClient

	timer *pipelineTimer
}

// Unwrap returns the client itself.
func (w watched) Unwrap() redis.UniversalClient { return w.UniversalClient }

// ConnectionHook is asked for by the lock manager.
func (w watched) ConnectionHook() redis.Hook { return w.timer }

// reset starts from zero.
func (p *pipelineTimer) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy, p.renewals = 0, 0
}

// total returns the busy time and the number of renewals since reset.
func (p *pipelineTimer) total() (busy time.Duration, renewals int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.busy, p.renewals
}

// measureHeld holds 10,000 locks with one manager.
func measureHeld(ctx context.Context, s *scope, e effort) (report, error) {
	server := redistest.Start(s)
	client := newPlain(s, server)
	timer := &pipelineTimer{}
	manager := newManager(s, watched{client, timer})

	few, err := acquireMany(ctx, manager, "few", fewLocks)
	if err != nil {
		return report{}, err
	}
	goroutines, heap := runtime.NumGoroutine(), liveHeap()
	many, err := acquireMany(ctx, manager, "many", heldLocks-fewLocks)
	if err != nil {
		return report{}, err
	}
	perLock := float64(liveHeap()-heap) / float64(heldLocks-fewLocks)
	grown := runtime.NumGoroutine() - goroutines
	round, err := renewalRound(ctx, timer)
	if err != nil {
		return report{}, err
	}
	for _, held := range slices.Concat(few, many) {
		if !held.IsHeld() {
			return report{}, errors.New("a lock was lost: the machine is too slow for these numbers")
		}
	}
	return report{rows: []row{
		{
			what: "10,000 held locks: one renewal round, busy", against: "–",
			goal: atMost(60), value: count(float64(round) / float64(time.Millisecond)), unit: "ms",
			detail: fmt.Sprintf("TTL %v", heldTTL),
		},
		{
			what: "10,000 held locks: goroutines more than for 100", against: "–",
			goal: atMost(0), value: count(float64(grown)), unit: "goroutines", detail: "",
		},
		{
			what: "10,000 held locks: heap per lock", against: "–",
			goal: atMost(1.5), value: count(perLock / 1024), unit: "KB", detail: "",
		},
	}}, nil
}

// acquireMany takes n locks, many at a time.
func acquireMany(ctx context.Context, manager *lock.RedisLockManager, kind string, n int) ([]lock.Lock, error) {
	held := make([]lock.Lock, n)
	failures := make([]error, lockCallers)
	var group sync.WaitGroup
	for caller := range lockCallers {
		group.Go(func() {
			for i := caller; i < n && failures[caller] == nil; i += lockCallers {
				held[i], failures[caller] = manager.Acquire(ctx, resource(kind, i), heldTTL)
			}
		})
	}
	group.Wait()
	return held, errors.Join(failures...)
}

// liveHeap returns the bytes of all objects that are still in use.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC() // what the first one's finalizers let go
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// renewalRound returns how long the manager was busy renewing all locks once.
// The moments at which they are due are spread out on purpose, so that the
// time from the first to the last renewal would say nothing.
func renewalRound(ctx context.Context, timer *pipelineTimer) (time.Duration, error) {
	timer.reset()
	deadline := time.Now().Add(heldTTL)
	for {
		busy, commands := timer.total()
		if commands >= heldLocks {
			return busy * heldLocks / time.Duration(commands), nil
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("only %d renewals seen", commands)
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return 0, err
		}
	}
}
