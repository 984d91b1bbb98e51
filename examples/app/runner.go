package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/fx"
	"go.uber.org/zap"
)

const (
	// glance is how often a run with an end looks how far it is.
	glance = 100 * time.Millisecond
	// settleTime is how long after the end of the work the last events may take to arrive.
	settleTime = 5 * time.Second
)

// Runner starts and ends a run: it hands out work, and for a run with an end it finds the verdict.
type Runner struct {
	options  Options
	store    *Store
	watcher  *Watcher
	pool     *Pool
	presence *Presence
	helpers  *Helpers
	breakage *Breakage
	pulse    *Pulse
	outage   *Outage
	board    *Board
	books    *Books
	tally    *Tally
	console  *Console
	log      *zap.Logger
	exit     *Exit
	shutdown fx.Shutdowner

	wg     sync.WaitGroup
	cancel context.CancelFunc
}

// runnerParams are what Fx puts together for NewRunner.
type runnerParams struct {
	fx.In

	Options  Options
	Store    *Store
	Watcher  *Watcher
	Pool     *Pool
	Presence *Presence
	Helpers  *Helpers
	Breakage *Breakage
	Pulse    *Pulse
	Outage   *Outage
	Board    *Board
	Books    *Books
	Tally    *Tally
	Console  *Console
	Log      *zap.Logger
	Exit     *Exit
	Shutdown fx.Shutdowner
}

// NewRunner appends its hooks to lc. What it needs has been constructed before, and so stops after it.
func NewRunner(lc fx.Lifecycle, p runnerParams) *Runner {
	r := &Runner{
		options: p.Options, store: p.Store, watcher: p.Watcher, pool: p.Pool,
		presence: p.Presence, helpers: p.Helpers, breakage: p.Breakage, pulse: p.Pulse, outage: p.Outage, board: p.Board, books: p.Books,
		tally: p.Tally, console: p.Console, log: p.Log, exit: p.Exit, shutdown: p.Shutdown, cancel: func() {},
	}
	lc.Append(fx.StopHook(r.Stop)) // first, so that it also follows a start that failed half-way
	lc.Append(fx.StartHook(r.Start))
	return r
}

// Start begins the run: listening comes before anything that could be heard.
func (r *Runner) Start(ctx context.Context) error {
	if err := r.watcher.Start(ctx); err != nil {
		return err
	}
	ids, err := r.submit(ctx)
	if err != nil {
		return err
	}
	r.console.Sayf("run %s: %d workers in process %s", r.options.Run, r.options.Workers, r.options.Name)
	r.pool.Start(ctx)
	r.presence.Start(ctx)
	r.helpers.Start(ctx)
	r.pulse.Start(ctx)

	ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.wg.Go(func() {
		switch {
		case r.options.Helper:
		case r.options.Batch():
			r.follow(ctx, ids)
		default:
			r.feed(ctx)
		}
	})
	return nil
}

// Stop ends all that Start began. The workers release their locks, so that other processes go on at once. All are told
// to end before one is waited for: while Redis hangs, each of them takes as long as its command.
func (r *Runner) Stop() {
	r.breakage.Stop()
	r.cancel()
	var stops sync.WaitGroup
	for _, stop := range []func(){r.helpers.Stop, r.pulse.Stop, r.pool.Stop, r.wg.Wait} {
		stops.Go(stop)
	}
	stops.Wait()
	r.presence.Stop()
	r.watcher.Stop()
}

// submit adds the workflows of a run with an end, unless another process was faster, and opens their books.
func (r *Runner) submit(ctx context.Context) ([]string, error) {
	var ids []string
	for n := range r.options.Workflows {
		id := r.store.ID(n + 1)
		if err := r.store.Submit(ctx, id); err != nil {
			return nil, err
		}
		w, err := r.store.Load(ctx, id)
		if err != nil && !errors.Is(err, errVanished) { // a lost workflow is for the verdict to tell
			return nil, err
		}
		// Events up to here may have been told before the subscription stood, all others are still to come.
		r.books.Open(id, w.Seq)
		r.board.Seed(w)
		ids = append(ids, id)
	}
	return ids, nil
}

// feed adds a workflow now and then, as long as the workers keep up.
func (r *Runner) feed(ctx context.Context) {
	for pause(ctx, r.options.Every) == nil {
		unfinished, err := r.store.Unfinished(ctx)
		if err == nil && unfinished < int64(3*r.options.Workers) {
			var id string
			if id, err = r.store.NextID(ctx); err == nil {
				err = r.store.Submit(ctx, id)
			}
		}
		if err != nil && ctx.Err() == nil {
			r.outage.Failed(fmt.Errorf("no new workflow: %w", err))
		}
	}
}

// follow waits for the end of the run, wherever the work is done, and ends the program with the verdict.
func (r *Runner) follow(ctx context.Context, ids []string) {
	began := time.Now()
	if err := r.finished(ctx); err != nil {
		return // interrupted
	}
	took := time.Since(began)
	r.settle(ctx, ids)
	r.console.Progress(r.board.Picture())
	r.console.EndProgress()

	v, err := audit(ctx, r.store, r.books, ids)
	if ctx.Err() != nil {
		return
	}
	v.Took = took
	switch {
	case err != nil:
		r.log.Error("no verdict, as Redis could not be read", zap.Error(err))
		r.exit.Set(exitFailed)
	case v.OK():
		report(r.console, v, r.tally)
		r.exit.Set(0)
	default:
		report(r.console, v, r.tally)
		r.exit.Set(exitFailed)
	}
	if err := r.shutdown.Shutdown(); err != nil {
		r.log.Error("shutdown", zap.Error(err))
	}
}

// finished returns when no workflow is unfinished, or nothing has happened for too long. The error is ctx's.
func (r *Runner) finished(ctx context.Context) error {
	var heard int
	last := time.Now()
	for pause(ctx, glance) == nil {
		unfinished, err := r.store.Unfinished(ctx)
		if err == nil && unfinished == 0 {
			return nil
		}
		p := r.board.Picture()
		if p.Received != heard {
			heard, last = p.Received, time.Now()
		}
		if time.Since(last) > r.options.Patience {
			r.log.Error("nothing happens any more", zap.Int64("unfinished", unfinished), zap.Error(err))
			return nil
		}
		r.console.Progress(p)
	}
	return ctx.Err()
}

// settle waits for the events that are still under way.
func (r *Runner) settle(ctx context.Context, ids []string) {
	last := make(map[string]int64, len(ids))
	for _, id := range ids {
		if w, err := r.store.Load(ctx, id); err == nil {
			last[id] = w.Seq
		}
	}
	r.watcher.Settle(ctx, last, settleTime)
}
