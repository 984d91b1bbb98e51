package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// maxReaped bounds what a server which cannot be reached can cost. What is beyond it ends with its TTL.
	maxReaped = 10_000
	// reapAgain is how long after a key was removed, or looked for in vain, it is looked for again, as the command that
	// sets it may be on its way still. One that comes even later leaves a key for the time of a first grant.
	reapAgain = 2 * time.Second
	// lastLook is how long after its last try Close looks once more. A server that has stalled executes what it was sent
	// meanwhile in any order, so that the try may be earlier than the command whose key it removes.
	lastLook = 100 * time.Millisecond
	// lastTimeout is how long the last try takes at most: Close waits for it.
	lastTimeout = time.Second
	// minReapDelay and maxReapDelay bound the pause between two tries.
	minReapDelay = 20 * time.Millisecond
	maxReapDelay = time.Second
)

var errLeft = errors.New("keys may be left, which end with their TTL")

// reapers removes what commands of unknown fate may have left. Each server has a reaper of its own, whose goroutine runs
// only while there is something to remove.
type reapers struct {
	link

	ctx     context.Context
	cancel  context.CancelFunc
	closing context.Context // ends when what is left is to have its last try, and with it the tries that are under way
	end     context.CancelFunc
	idle    chan struct{} // closed after that, when no reaper is left

	mu      sync.Mutex // guards what follows, and the end of closing
	servers map[string]*reaper
	left    time.Time // until when something may be left that was given up
}

// reaper is what is to be removed from one server.
type reaper struct {
	poke chan struct{} // holds one wake-up at most
	// What follows is guarded by the mutex of reapers.
	count int      // how much there is, with what is being tried
	fresh []reaped // not tried yet
	late  []reaped // to be tried again when due
	due   time.Time
	delay time.Duration
}

// reaped is a call that removes something.
type reaped struct {
	key   string
	call  func() call
	until time.Time     // until when to try: what there may be has ended by then
	again time.Duration // for how long to look again after the first success
	done  time.Time     // the first success
	quiet bool          // it is no failure of Close if it cannot be removed

	failed bool // the last try has
}

// isLeft reports whether it is a failure of Close that the last try has failed.
func (w reaped) isLeft() bool { return w.failed && !w.quiet }

func newReapers(l link) *reapers {
	r := &reapers{link: l, servers: make(map[string]*reaper), idle: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(redisx.Background(context.Background()))
	r.closing, r.end = context.WithCancel(context.Background())
	return r
}

// closed reports whether close has been called.
func (r *reapers) closed() bool { return r.closing.Err() != nil }

// Reason is why a lock is removed.
type Reason uint8

const (
	// Unwanted means that nobody wants what was granted, or may have been.
	Unwanted Reason = iota
	// Lost means that the holder knows that it has lost the lock. Close does not report it once more.
	Lost
	// Split means that several who ask have got a part of the servers each. They all ask again in a moment, and a
	// reservation for yet another one would only be in their way.
	Split
)

// Reap removes the lock of a value that nobody wants, in the background, wherever its commands have got to. A server that
// has not confirmed the lock was never asked to extend it.
func (s *Redis) Reap(c Claim, why Reason) {
	reservation, lasts := s.set.Reservation, FirstGrant
	if why == Split {
		reservation = 0
	}
	if _, ok := s.tries(c).confirmed(); ok {
		lasts = max(lasts, c.TTL)
	}
	s.reapers.add(reaped{
		key:   c.Keys.Lock(),
		call:  func() call { return s.scripts.releasing(c, reservation) },
		until: time.Now().Add(lasts), again: reapAgain, quiet: why == Lost,
	})
}

// Leave takes a waiter off the queue, in the background.
func (s *Redis) Leave(k Keys, name string) {
	s.reapers.add(reaped{
		key: k.Lock(),
		call: func() call {
			return call{script: s.scripts.leave, keys: k.freeing(), args: []any{name, s.set.Reservation.Milliseconds()}}
		},
		until: time.Now().Add(queueTTL), quiet: true,
	})
}

func (r *reapers) add(w reaped) {
	server := address(r.master(w.key))
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.servers[server]
	if p == nil {
		p = &reaper{poke: make(chan struct{}, 1)}
		if r.closed() || !r.set.Go(func() { r.run(server, p) }) {
			r.giveUp(w)
			return
		}
		r.servers[server] = p
	}
	if p.count >= maxReaped {
		r.giveUp(w)
		return
	}
	p.count++
	p.fresh = append(p.fresh, w)
	select {
	case p.poke <- struct{}{}:
	default:
	}
}

// giveUp notes what is not tried any more, and may still be there. The caller holds mu.
func (r *reapers) giveUp(w reaped) {
	if !w.quiet && w.until.After(r.left) {
		r.left = w.until
	}
}

// run is the goroutine of a server.
func (r *reapers) run(server string, p *reaper) {
	for {
		work, pause, last := r.take(server, p)
		switch {
		case len(work) > 0:
			again := r.try(work, last)
			if last && len(again) > 0 && !slices.ContainsFunc(again, reaped.isLeft) && redisx.Sleep(r.ctx, lastLook) == nil {
				again = r.try(again, last)
			}
			r.put(p, len(work), again, last)
		case pause > 0:
			r.sleep(p, pause)
		default:
			return
		}
	}
}

// take returns what to try now, or how long to wait for that, or neither if the goroutine is to end. What is fresh waits
// for nothing, and what failed before does not come along before it is due. It reports whether it is the last try.
func (r *reapers) take(server string, p *reaper) (work []reaped, pause time.Duration, last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	work, p.fresh = p.fresh, nil
	pause = time.Until(p.due)
	switch {
	case r.closed() || pause <= 0:
		work, p.late = append(work, p.late...), nil
	case len(work) > 0 || len(p.late) > 0:
		return work, pause, false
	}
	if len(work) > 0 {
		return work, 0, r.closed()
	}
	delete(r.servers, server)
	if r.closed() && len(r.servers) == 0 {
		close(r.idle)
	}
	return nil, 0, false
}

// put takes note of what of so much that was tried is to be tried again, unless that was the last try. One that was under
// way when the store was closed is not.
func (r *reapers) put(p *reaper, tried int, again []reaped, last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last {
		for _, w := range again {
			if w.isLeft() {
				r.giveUp(w)
			}
		}
		return
	}
	p.count += len(again) - tried
	if len(p.late) == 0 { // all were tried
		p.delay = min(max(2*p.delay, minReapDelay), maxReapDelay)
		if len(again) == 0 {
			p.delay = 0
		}
		p.due = time.Now().Add(p.delay)
	}
	p.late = append(p.late, again...)
}

// sleep waits until something is due, or fresh, or the store is closing.
func (r *reapers) sleep(p *reaper, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.poke:
	case <-r.closing.Done():
	}
}

// try removes what it can in pipelines, and returns what is to be tried again. It ends when the store is closing; the last
// try is made then, for which there is less time.
func (r *reapers) try(work []reaped, last bool) (again []reaped) {
	ctx, cancel := context.WithTimeout(r.ctx, r.set.Timeout)
	if last {
		ctx, cancel = context.WithTimeout(r.ctx, min(r.set.Timeout, lastTimeout))
	} else {
		defer context.AfterFunc(r.closing, cancel)()
	}
	defer cancel()
	calls := make([]call, len(work))
	for i, w := range work {
		calls[i] = w.call()
	}
	var mu sync.Mutex // guards again
	r.pipeline(ctx, r.client, false, calls, func(i int, _ int64, err error) {
		mu.Lock()
		defer mu.Unlock()
		if w, ok := work[i].after(err); ok {
			again = append(again, w)
		}
	})
	return slices.Clip(again)
}

// after returns what is left to do after a try, and whether there is anything.
func (w reaped) after(err error) (reaped, bool) {
	now := time.Now()
	if w.failed = err != nil; w.failed {
		return w, now.Before(w.until)
	}
	if w.done.IsZero() {
		w.done = now
	}
	return w, now.Sub(w.done) < w.again
}

// close has everything tried once more, and returns when that is done or ctx ends, an error if something may be left.
func (r *reapers) close(ctx context.Context) error {
	r.mu.Lock()
	r.end()
	if len(r.servers) == 0 {
		close(r.idle)
	}
	r.mu.Unlock()
	defer r.cancel()
	select {
	case <-r.idle:
	case <-ctx.Done():
		return errLeft
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Now().Before(r.left) {
		return errLeft
	}
	return nil
}
