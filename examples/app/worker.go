package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/compozy/cache"
)

const (
	// A worker that found nothing to do pauses this long on average, the longer the more often in a row.
	idle, longestIdle = 50 * time.Millisecond, 400 * time.Millisecond
	// A worker whose Redis does not answer pauses this long, the longer the more often in a row.
	afterError, longestAfterError = 500 * time.Millisecond, 2 * time.Second
)

var errNotRunning = errors.New("the workers do not run")

// Pool is the workers of this process.
type Pool struct {
	in poolParams

	wg      sync.WaitGroup
	cancel  context.CancelFunc
	running atomic.Bool
	busy    atomic.Int64 // workers that have a workflow
}

// poolParams are what Fx puts together for NewPool.
type poolParams struct {
	fx.In

	Options   Options
	Store     *Store
	Customers *Customers
	Locks     cache.Locker
	Events    cache.NotificationSystem
	Tally     *Tally
	Outage    *Outage
	Diary     *Diary
	Log       *zap.Logger
}

// NewPool returns a pool that does nothing yet.
func NewPool(p poolParams) *Pool { return &Pool{in: p, cancel: func() {}} }

// Start lets the workers work until Stop. They take over the values of ctx, not its end.
func (p *Pool) Start(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.running.Store(true)
	for n := range p.in.Options.Workers {
		name := fmt.Sprintf("%s/%d", p.in.Options.Name, n+1)
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

// Busy returns how many workers have a workflow.
func (p *Pool) Busy() int { return int(p.busy.Load()) }

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
		began := time.Now()
		did, err := p.next(ctx, name)
		if err == nil {
			failing = afterError
			p.in.Outage.Worked(began)
		}
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errVanished):
			// Nobody can finish it. It stays missing, and the verdict will say so.
			p.in.Log.Error("workflow lost", zap.String("worker", name), zap.Error(err))
		case lost(err):
			p.gaveUp(name, err)
		case err != nil:
			p.in.Outage.Failed(fmt.Errorf("worker %s: %w", name, err))
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

// finish runs a workflow from where it stands to its end. Each change is committed first and told second; what a
// worker that dies in between leaves untold is in the outbox of the state.
func (p *Pool) finish(ctx context.Context, id, worker string, token int64) error {
	state, err := p.in.Store.Load(ctx, id)
	if errors.Is(err, errVanished) {
		return errors.Join(err, p.in.Store.Finish(ctx, id)) // take it off the list, so that nobody tries again
	}
	if err != nil {
		return err
	}
	if state.Status == Done {
		// Whoever ended it may have done all there was to do since it was picked.
		if listed, err := p.in.Store.Listed(ctx, id); err != nil || !listed {
			return err
		}
	}
	// These may have been published already. If so, receivers notice by their numbers.
	if err := p.tell(ctx, state); err != nil {
		return err
	}
	if state.Status == Done {
		return p.in.Store.Finish(ctx, id)
	}

	takeover := state.Status == Running
	if state, err = p.change(ctx, state, state.Claim(worker, token, time.Now()), factClaimed); err != nil {
		return err
	}
	if takeover {
		p.in.Tally.Takeovers.Add(1)
	}
	for state.Status != Done {
		if state, err = p.step(ctx, state); err != nil {
			return err
		}
	}
	if err := p.in.Store.Finish(ctx, id); err != nil {
		return err
	}
	p.in.Tally.Workflows.Add(1)
	return nil
}

// step runs one step, once, and returns the state after it, whether it succeeded or has to be tried again.
func (p *Pool) step(ctx context.Context, w Workflow) (Workflow, error) {
	if err := p.in.Store.Note(ctx, factBegun, w.Worker, w.Token, w); err != nil {
		return w, err
	}
	if customer, err := p.in.Customers.Of(ctx, w.ID); err == nil { // the work can do without the name
		w.Customer = customer.Name
	}
	// Here a real program would do its work, and hand the token to whatever it changes.
	work := func(ctx context.Context) error { return pause(ctx, w.takes(p.in.Options.Step)) }
	var err error
	if steps(w.Kind)[w.Step].AtTable {
		err = p.atTable(ctx, w.Worker, work)
	} else {
		err = work(ctx)
	}
	if err != nil {
		return w, err
	}
	if w.fails(p.in.Options.Failures) {
		next, err := p.change(ctx, w, w.Fail(time.Now()), factFailed)
		if err == nil {
			p.in.Tally.Retries.Add(1)
		}
		return next, err
	}
	next, err := p.change(ctx, w, w.Succeed(time.Now()), factDone)
	if err == nil {
		p.in.Tally.Steps.Add(1)
	}
	return next, err
}

// change makes next the state of the workflow, if it still may, and tells everybody.
func (p *Pool) change(ctx context.Context, old, next Workflow, fact string) (Workflow, error) {
	began := time.Now()
	stored, err := p.in.Store.Commit(ctx, old, next, fact)
	if err != nil {
		if errors.Is(err, errFencedOff) {
			p.in.Tally.Refused.Add(1)
		}
		return old, err
	}
	p.in.Outage.Worked(began)
	return stored, p.tell(ctx, stored)
}

// tell publishes the events that say how the state came about.
func (p *Pool) tell(ctx context.Context, w Workflow) error {
	for _, e := range w.Outbox {
		if err := publish(ctx, p.in.Events, e); err != nil {
			return fmt.Errorf("publishing: %w", err)
		}
		p.in.Tally.Published.Add(1)
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
