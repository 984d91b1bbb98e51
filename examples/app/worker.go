package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache"
)

const (
	// lockTTL is how long the workflows of a process that died wait for another. Locks of living ones are renewed.
	lockTTL = 3 * time.Second
	// A worker that found nothing to do pauses this long on average, the longer the more often in a row.
	idle, longestIdle = 50 * time.Millisecond, 400 * time.Millisecond
	// A worker whose Redis does not answer pauses this long, the longer the more often in a row.
	afterError, longestAfterError = 500 * time.Millisecond, 2 * time.Second
	// releaseTimeout bounds the release of a lock, which happens even if the worker was told to stop.
	releaseTimeout = 2 * time.Second
)

var errNotRunning = errors.New("the workers do not run")

// Pool is the workers of this process.
type Pool struct {
	options Options
	store   *Store
	locks   cache.Locker
	events  cache.NotificationSystem
	tally   *Tally
	log     *zap.Logger

	wg      sync.WaitGroup
	cancel  context.CancelFunc
	running atomic.Bool
}

// NewPool returns a pool that does nothing yet.
func NewPool(
	o Options, s *Store, locks cache.Locker, events cache.NotificationSystem, t *Tally, log *zap.Logger,
) *Pool {
	return &Pool{options: o, store: s, locks: locks, events: events, tally: t, log: log, cancel: func() {}}
}

// Start lets the workers work until Stop. They take over the values of ctx, not its end.
func (p *Pool) Start(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.running.Store(true)
	for n := range p.options.Workers {
		name := fmt.Sprintf("%s/%d", p.options.Name, n+1)
		p.wg.Go(func() { p.work(ctx, name) })
	}
}

// Stop makes the workers drop what they do and release their locks, so that others can go on at once. It may be
// repeated, and called without Start.
func (p *Pool) Stop() {
	p.cancel()
	p.wg.Wait()
	p.running.Store(false)
}

// HealthCheck says whether this process takes workflows.
func (p *Pool) HealthCheck(context.Context) error {
	if !p.running.Load() {
		return errNotRunning
	}
	return nil
}

// work is the life of one worker.
func (p *Pool) work(ctx context.Context, name string) {
	quiet, failing := idle, afterError
	for ctx.Err() == nil {
		did, err := p.next(ctx, name)
		if err == nil {
			failing = afterError
		}
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errVanished):
			// Nobody can finish it. It stays missing, and the verdict will say so.
			p.log.Error("workflow lost", zap.String("worker", name), zap.Error(err))
		case err != nil:
			p.log.Warn("worker pauses after an error", zap.String("worker", name), zap.Error(err))
			_ = pause(ctx, failing)
			failing = min(2*failing, longestAfterError)
		case !did:
			_ = pause(ctx, quiet/2+rand.N(quiet)) // not all at the same time
			quiet = min(2*quiet, longestIdle)
		default:
			quiet = idle
		}
	}
}

// next takes one unfinished workflow to its end. It reports whether it did anything.
func (p *Pool) next(ctx context.Context, worker string) (bool, error) {
	id, err := p.store.Pick(ctx)
	if err != nil {
		return false, fmt.Errorf("choosing a workflow: %w", err)
	}
	if id == "" {
		return false, nil
	}
	lock, err := p.locks.TryAcquire(ctx, p.store.Resource(id), lockTTL)
	if errors.Is(err, cache.ErrLockNotAcquired) {
		p.tally.LockWaits.Add(1)
		return false, p.store.CountWait(ctx)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", id, err)
	}
	defer p.release(ctx, lock)

	ctx, end := under(ctx, lock)
	defer end()
	err = p.finish(ctx, id, worker, lock.Token())
	switch cause := context.Cause(ctx); {
	case err == nil:
		return true, nil
	case cause != nil: // it tells a lost lock from a worker that was stopped
		return true, fmt.Errorf("%s: %w: %w", id, cause, err)
	}
	return true, fmt.Errorf("%s: %w", id, err)
}

// under returns a context that ends with ctx or when the lock is lost, whichever comes first.
func under(ctx context.Context, lock cache.FencedLock) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(lock.Context(), func() { cancel(context.Cause(lock.Context())) })
	return ctx, func() { stop(); cancel(nil) }
}

func (p *Pool) release(ctx context.Context, lock cache.Lock) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := lock.Release(ctx); err != nil {
		p.log.Warn("lock was lost, or could not be released", zap.String("resource", lock.Resource()), zap.Error(err))
	}
}

// finish runs a workflow from where it stands to its end. Each change is committed first and told second; what a
// worker that dies in between leaves untold is in the outbox of the state.
func (p *Pool) finish(ctx context.Context, id, worker string, token int64) error {
	state, err := p.store.Load(ctx, id)
	if errors.Is(err, errVanished) {
		return errors.Join(err, p.store.Finish(ctx, id)) // take it off the list, so that nobody tries again
	}
	if err != nil {
		return err
	}
	if state.Status == Done {
		// Whoever ended it may have done all there was to do since it was picked.
		if listed, err := p.store.Listed(ctx, id); err != nil || !listed {
			return err
		}
	}
	// These may have been published already. If so, receivers notice by their numbers.
	if err := p.tell(ctx, state); err != nil {
		return err
	}
	if state.Status == Done {
		return p.store.Finish(ctx, id)
	}

	takeover := state.Status == Running
	if state, err = p.change(ctx, state, state.Claim(worker, token, time.Now()), factClaimed); err != nil {
		return err
	}
	if takeover {
		p.tally.Takeovers.Add(1)
	}
	for state.Status != Done {
		if state, err = p.step(ctx, state); err != nil {
			return err
		}
	}
	if err := p.store.Finish(ctx, id); err != nil {
		return err
	}
	p.tally.Workflows.Add(1)
	return nil
}

// step runs one step, once, and returns the state after it, whether it succeeded or has to be tried again.
func (p *Pool) step(ctx context.Context, w Workflow) (Workflow, error) {
	if err := p.store.Note(ctx, factBegun, w.Worker, w.Token, w); err != nil {
		return w, err
	}
	// Here a real program would do its work, and hand the token to whatever it changes.
	if err := pause(ctx, w.takes(p.options.Step)); err != nil {
		return w, err
	}
	if w.fails(p.options.Failures) {
		next, err := p.change(ctx, w, w.Fail(time.Now()), factFailed)
		if err == nil {
			p.tally.Retries.Add(1)
		}
		return next, err
	}
	next, err := p.change(ctx, w, w.Succeed(time.Now()), factDone)
	if err == nil {
		p.tally.Steps.Add(1)
	}
	return next, err
}

// change makes next the state of the workflow, if it still may, and tells everybody.
func (p *Pool) change(ctx context.Context, old, next Workflow, fact string) (Workflow, error) {
	stored, err := p.store.Commit(ctx, old, next, fact)
	if err != nil {
		if errors.Is(err, errFencedOff) {
			p.tally.Refused.Add(1)
		}
		return old, err
	}
	return stored, p.tell(ctx, stored)
}

// tell publishes the events that say how the state came about.
func (p *Pool) tell(ctx context.Context, w Workflow) error {
	for _, e := range w.Outbox {
		if err := publish(ctx, p.events, e); err != nil {
			return fmt.Errorf("publishing: %w", err)
		}
		p.tally.Published.Add(1)
	}
	return nil
}

// pause waits for d, or less if ctx ends first: then it returns ctx's error.
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
