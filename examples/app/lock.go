package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache"
	"github.com/compozy/cache/lock"
)

const (
	// lockTTL is how long the workflows of a process that died wait for another. Locks of living ones are renewed.
	lockTTL = 3 * time.Second
	// releaseTimeout bounds the release of a lock, which happens even if the worker was told to stop.
	releaseTimeout = 2 * time.Second
)

// lockerOf returns the locks of a worker: they bear its name, for people who look with Inspect. Those of a fake need not.
func (p *Pool) lockerOf(worker string) cache.Locker {
	if manager, ok := p.in.Locks.(*cache.RedisLockManager); ok {
		return manager.With(lock.WithOwner(worker))
	}
	return p.in.Locks
}

// next takes one unfinished workflow to its end, under its lock. It reports whether it did anything.
func (p *Pool) next(ctx context.Context, worker string) (bool, error) {
	id, err := p.in.Store.Pick(ctx)
	if err != nil {
		return false, fmt.Errorf("choosing a workflow: %w", err)
	}
	if id == "" {
		return false, nil
	}
	// TryAcquire does not wait: there are other workflows.
	held, err := p.lockerOf(worker).TryAcquire(ctx, p.in.Store.Resource(id), lockTTL)
	if errors.Is(err, cache.ErrLockNotAcquired) {
		p.in.Tally.LockWaits.Add(1)
		return false, p.in.Store.CountWait(ctx)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", id, err)
	}
	defer p.release(ctx, held)
	p.busy.Add(1)
	defer p.busy.Add(-1)

	ctx, end := under(ctx, held)
	defer end()
	err = p.finish(ctx, id, worker, held.Token())
	switch cause := context.Cause(ctx); {
	case err == nil:
		return true, nil
	case cause != nil: // it tells a lost lock from a worker that was stopped
		return true, fmt.Errorf("%s: %w: %w", id, cause, err)
	}
	return true, fmt.Errorf("%s: %w", id, err)
}

// under returns a context that ends with ctx or when the lock is lost, whichever comes first.
func under(ctx context.Context, held cache.FencedLock) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(held.Context(), func() { cancel(context.Cause(held.Context())) })
	return ctx, func() { stop(); cancel(nil) }
}

func (p *Pool) release(ctx context.Context, held cache.Lock) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	switch err := held.Release(ctx); {
	case err == nil, errors.Is(err, cache.ErrLockNotHeld): // lost, which the error of next has said
	default:
		p.in.Outage.Failed(err)
	}
}

// lost reports whether an error says that a lock was lost, or that the state refused a worker without lock.
func lost(err error) bool {
	return errors.Is(err, cache.ErrLockExpired) || errors.Is(err, cache.ErrLockStolen) || errors.Is(err, errFencedOff)
}

// gaveUp tells of a worker that had to drop a workflow.
func (p *Pool) gaveUp(worker string, err error) {
	p.in.Log.Info("worker drops a workflow, as it has no lock any more", zap.String("worker", worker), zap.Error(err))
	switch {
	case errors.Is(err, errFencedOff):
		p.in.Diary.Addf(Copes, "Worker %s came too late: the state refused its result, as its fencing token is not the newest.", worker)
	default:
		p.in.Diary.Addf(Copes, "Worker %s was told that its lock is gone, and dropped the work at once.", worker)
	}
}

// packing names the lock of the one table on which orders are packed.
func (p *Pool) packing() string { return "packing-table/" + p.in.Options.Run }

// atTable runs fn at the packing table, of which there is one for the workers of all processes. WithLock waits for it, in
// the order of arrival, and ends the context of fn if the lock is lost.
func (p *Pool) atTable(ctx context.Context, worker string, fn func(ctx context.Context) error) error {
	return p.lockerOf(worker).WithLock(ctx, p.packing(), lockTTL, func(ctx context.Context, _ cache.FencedLock) error {
		return fn(ctx)
	})
}
