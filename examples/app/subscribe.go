package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache"
	"github.com/compozy/cache/notification"
)

// gapped is what a subscription of this module can do beyond cache.Subscriber. A fake need not.
type gapped interface {
	Err() error             // why it is closed
	Gaps() <-chan cache.Gap // what it may have missed
	Dropped() uint64        // what came faster than it was read
}

var _ gapped = (*cache.Subscription)(nil)

// Watcher listens to all workflows of a run, those of other processes as well, and keeps the books.
type Watcher struct {
	options Options
	events  cache.NotificationSystem
	board   *Board
	books   *Books
	console *Console
	diary   *Diary
	log     *zap.Logger

	wg     sync.WaitGroup
	cancel context.CancelFunc
}

// NewWatcher returns a watcher that does nothing yet.
func NewWatcher(
	o Options, events cache.NotificationSystem, board *Board, books *Books, c *Console, d *Diary, log *zap.Logger,
) *Watcher {
	return &Watcher{options: o, events: events, board: board, books: books, console: c, diary: d, log: log, cancel: func() {}}
}

// Start subscribes. When it returns, every event published from then on is going to arrive, or a gap says why not.
func (w *Watcher) Start(ctx context.Context) error {
	ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	// Every workflow event is published on two channels that match this pattern, and comes once.
	workflows, err := w.subscribe(ctx, "workflow:*")
	if err != nil {
		return err
	}
	tasks, err := w.subscribe(ctx, notification.TaskEvents)
	if err != nil {
		return err
	}
	w.wg.Go(func() { w.listen(ctx, workflows, tasks) })
	return nil
}

// Stop closes the subscriptions. It may be repeated, and called without Start.
func (w *Watcher) Stop() {
	w.cancel()
	w.wg.Wait()
}

// source is a subscription, as far as it can be one of this module.
type source struct {
	pattern  string
	messages <-chan *cache.Message
	gaps     <-chan cache.Gap // of a fake: nil, which never brings anything
	dropped  func() uint64
	known    uint64 // how many drops have been noted
}

// subscribe ends with ctx.
func (w *Watcher) subscribe(ctx context.Context, pattern string) (*source, error) {
	sub := w.events.Subscribe(ctx, pattern)
	from := &source{pattern: pattern, messages: sub.Messages(), dropped: func() uint64 { return 0 }}
	if s, ok := sub.(gapped); ok {
		if err := s.Err(); err != nil {
			return nil, fmt.Errorf("subscribing to %s: %w", pattern, err)
		}
		from.gaps, from.dropped = s.Gaps(), s.Dropped
	}
	return from, nil
}

// listen enters what the subscriptions bring, until ctx ends.
func (w *Watcher) listen(ctx context.Context, workflows, tasks *source) {
	for {
		select {
		case m, open := <-workflows.messages:
			// The steps of a workflow were told before its end, so they are here already: they go first.
			for n := len(tasks.messages); n > 0; n-- {
				t, open := <-tasks.messages
				w.take(ctx, tasks, t, open)
			}
			w.take(ctx, workflows, m, open)
		case m, open := <-tasks.messages:
			w.take(ctx, tasks, m, open)
		case gap, open := <-workflows.gaps:
			w.gap(workflows, gap, open)
		case gap, open := <-tasks.gaps:
			w.gap(tasks, gap, open)
		case <-ctx.Done():
			return
		}
	}
}

// take enters a message, or notes that there will be no more.
func (w *Watcher) take(ctx context.Context, from *source, m *cache.Message, open bool) {
	if !open {
		from.messages = nil
		if ctx.Err() == nil {
			w.missed(from.pattern, "the subscription was closed")
		}
		return
	}
	if e, ours := received(m, w.options.Run); ours {
		w.enter(e)
	}
	if now := from.dropped(); now > from.known {
		w.missed(from.pattern, fmt.Sprintf("%d messages came faster than they were read", now-from.known))
		from.known = now
	}
}

// gap notes what a subscription may have missed.
func (w *Watcher) gap(from *source, g cache.Gap, open bool) {
	if !open {
		from.gaps = nil
		return
	}
	if g.Reason == cache.GapWiped {
		w.board.Wiped()
		w.diary.Addf(Suffers, "Redis has lost its data, says the subscription (gap: %s). What was running is lost with it; new workflows go on under numbers of a new series.", g.Reason)
	} else {
		w.diary.Addf(Suffers, "Events may be missing here, says the subscription (gap: %s).", g.Reason)
	}
	w.missed(from.pattern, fmt.Sprint(g.Reason))
}

func (w *Watcher) enter(e Event) {
	if w.options.Batch() { // a run without end gets no verdict, and books would only grow
		w.books.Enter(e)
	}
	w.board.Apply(e)
	w.console.Event(e)
	if e.Type == WorkflowResumed {
		w.diary.Addf(Copes, "%s goes on with %s before “%s”, under the newer token %d.", e.Worker, e.Workflow, e.Step, e.Token)
	}
}

func (w *Watcher) missed(pattern, reason string) {
	w.books.Gap(pattern + ": " + reason)
	w.board.Gap()
	w.log.Warn("events may be missing", zap.String("pattern", pattern), zap.String("reason", reason))
}

// Settle waits until all events up to the given number of each workflow have come, for at most the given time.
func (w *Watcher) Settle(ctx context.Context, last map[string]int64, within time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for id, seq := range last {
		for len(w.books.Missing(id, seq)) > 0 {
			if pause(ctx, 10*time.Millisecond) != nil {
				return
			}
		}
	}
}
