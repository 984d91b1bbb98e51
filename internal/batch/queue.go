package batch

import (
	"cmp"
	"container/list"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/compozy/cache/internal/redisx"
)

// Settings say how a Queue works. Send and Timeout are required.
type Settings[T any] struct {
	// Send sends items together and stores the outcome of each in the item. It must
	// return soon after ctx ends. Its panic is passed on to the callers.
	Send func(ctx context.Context, items []T)
	// Timeout bounds each Send, which also ends when the deadlines of all its callers
	// are over.
	Timeout time.Duration
	// Parallel is how many batches may be under way at the same time, 1 by default.
	// Fewer make fuller batches, which cost less; more shorten the wait for the
	// next one on a far link.
	Parallel int
	// MaxItems is how many items a batch has at most, 128 by default.
	MaxItems int
	// Size and MaxSize bound what the items of a batch add up to; a larger item goes
	// alone. Without them only the number counts.
	Size    func(T) int
	MaxSize int
	// Alone, if it is not 0, lets a caller that finds nothing under way call Send by
	// itself, with this much time at most: to wake another goroutine costs as much as
	// a round trip on the same machine. Such a caller notices the end of its context,
	// but for its deadline, only when Send returns. Send is not called so when it took
	// more than a quarter of the time before; when the time is over, it has to report
	// that in the item.
	Alone time.Duration
	// Go starts a goroutine; by default it is a go statement.
	Go func(func())
}

// Queue sends what concurrent callers give it in batches. Its goroutines end when
// nothing waits. It is safe for concurrent use; make one with NewQueue.
type Queue[T any] struct {
	set Settings[T]

	mu      sync.Mutex // guards what follows, and the state of all entries
	waiting list.List  // of *entry[T], the oldest first
	sending int        // goroutines that send batches, and the caller that sends alone
	quick   bool       // the last Send took no more than a quarter of Alone
}

// entry is an item and its caller.
type entry[T any] struct {
	item T
	ctx  context.Context //nolint:containedctx // of the caller, which waits on this entry
	size int
	// done is closed when Send has returned for the item; panicked is written before.
	done     chan struct{}
	panicked any

	state state
	place *list.Element // in the queue, while the state is queued
}

// state is how far an item has come.
type state uint8

const (
	queued  state = iota
	taken         // by a batch
	dropped       // never sent, as its caller's context has ended
)

// NewQueue returns a Queue that has nothing to send yet.
func NewQueue[T any](set Settings[T]) *Queue[T] {
	set.Parallel = max(set.Parallel, 1)
	if set.MaxItems <= 0 {
		set.MaxItems = 128
	}
	if set.Size == nil {
		set.Size = func(T) int { return 0 }
	}
	if set.Go == nil {
		set.Go = func(f func()) { go f() }
	}
	return &Queue[T]{set: set}
}

// Do has item sent, together with those of other callers, and waits until that is
// done; then err is nil and the item holds its outcome.
//
// When ctx ends first, err is its cause. sent tells then whether the item may have
// been sent: false means that it was not and never will be. If it may have been, the
// caller must not touch the item any more. A caller that sends by itself (see
// Settings.Alone) waits for Send in any case, and err is nil: the item says what the end
// of ctx has done to it.
func (q *Queue[T]) Do(ctx context.Context, item T) (sent bool, err error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	size := q.set.Size(item) // not under the mutex, which a panic would leave locked
	q.mu.Lock()
	if q.quick && q.sending == 0 {
		q.sending++
		q.mu.Unlock()
		q.sendAlone(ctx, item)
		return true, nil
	}
	e := &entry[T]{item: item, ctx: ctx, size: size, done: make(chan struct{})}
	e.place = q.waiting.PushBack(e)
	q.start()
	q.mu.Unlock()

	select {
	case <-e.done:
	case <-ctx.Done():
		if sent, ended := q.abandon(e); !ended {
			return sent, context.Cause(ctx)
		}
	}
	if e.state == dropped {
		return false, cmp.Or(context.Cause(ctx), context.DeadlineExceeded)
	}
	if e.panicked != nil {
		panic(e.panicked)
	}
	return true, nil
}

// start has a goroutine send what waits, if there may be another one. The caller
// holds mu.
func (q *Queue[T]) start() {
	if q.sending < q.set.Parallel && q.waiting.Len() > 0 {
		q.sending++
		q.set.Go(q.run)
	}
}

// sendAlone sends an item by the caller's goroutine, which has been counted.
func (q *Queue[T]) sendAlone(ctx context.Context, item T) {
	began := time.Now()
	defer func() { // also when Send panics
		q.mu.Lock()
		defer q.mu.Unlock()
		q.sending--
		q.quick = q.isQuick(began)
		q.start()
	}()
	ctx, cancel := redisx.WithDeadline(ctx, began.Add(q.set.Alone))
	defer cancel()
	q.set.Send(ctx, []T{item})
}

// isQuick reports whether a Send that began then and has just returned was quick.
func (q *Queue[T]) isQuick(began time.Time) bool { return 4*time.Since(began) < q.set.Alone }

// abandon gives up on an item: it is not sent any more if no batch has taken it. ended
// says that the item's batch was faster.
func (q *Queue[T]) abandon(e *entry[T]) (sent, ended bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch e.state {
	case queued:
		q.waiting.Remove(e.place)
		return false, false
	case dropped:
		return false, false
	default:
	}
	select {
	case <-e.done:
		return true, true
	default:
		return true, false
	}
}

// idle reports whether nothing waits and nothing is under way.
func (q *Queue[T]) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.sending == 0 && q.waiting.Len() == 0
}

// Waiting returns how many items wait for a batch. Tests wait for it.
func (q *Queue[T]) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting.Len()
}

// run sends batches until nothing waits.
func (q *Queue[T]) run() {
	through := false
	defer func() {
		if through {
			return
		}
		// Send has called runtime.Goexit. Another goroutine goes on.
		q.mu.Lock()
		defer q.mu.Unlock()
		q.sending--
		q.start()
	}()
	for {
		// Callers whose items have just come back are about to bring the next ones:
		// letting them run first makes fuller batches.
		runtime.Gosched()
		batch := q.take()
		if batch == nil {
			through = true
			return
		}
		q.send(batch)
	}
}

// take removes the next batch from the queue. It returns nil when nothing waits; the
// goroutine that sends is not counted any more then.
func (q *Queue[T]) take() []*entry[T] {
	q.mu.Lock()
	defer q.mu.Unlock()
	var batch []*entry[T]
	size := 0
	for len(batch) < q.set.MaxItems && q.waiting.Len() > 0 {
		e := q.waiting.Front().Value.(*entry[T]) //nolint:forcetypeassert // nothing else is in it
		next := taken
		if ended(e.ctx) {
			next = dropped // its caller is about to leave, and learns for certain that nothing was sent
		} else if size += e.size; len(batch) > 0 && q.set.MaxSize > 0 && size > q.set.MaxSize {
			break
		}
		q.waiting.Remove(e.place)
		if e.state = next; next == taken {
			batch = append(batch, e)
		} else {
			close(e.done) // a context of somebody's own may have a deadline and never end
		}
	}
	if batch == nil {
		q.sending--
	}
	return batch
}

// ended reports whether a context is over. When its time is, it may notice only a moment
// later: a batch before, whose connection had the same deadline, may have returned first.
func ended(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// send calls Send and wakes the callers, whatever Send does.
func (q *Queue[T]) send(batch []*entry[T]) {
	// A span or other value of the first caller goes for all; the end of its context
	// for none.
	ctx, cancel := context.WithDeadline(context.WithoutCancel(batch[0].ctx), q.deadline(batch))
	defer cancel()
	items := make([]T, len(batch))
	for i, e := range batch {
		items[i] = e.item
	}
	began, returned := time.Now(), false
	defer func() {
		var panicked any
		if v := recover(); v != nil {
			panicked = fmt.Sprintf("%v\n\nraised by a batch, at:\n%s", v, debug.Stack())
		} else if !returned {
			panicked = "runtime.Goexit was called while a batch was sent"
		}
		q.settle(batch, panicked, began)
	}()
	q.set.Send(ctx, items)
	returned = true
}

// deadline returns when nobody waits for a batch any longer, at the latest.
func (q *Queue[T]) deadline(batch []*entry[T]) time.Time {
	limit := time.Now().Add(q.set.Timeout)
	var latest time.Time
	for _, e := range batch {
		deadline, ok := e.ctx.Deadline()
		if !ok || deadline.After(limit) {
			return limit
		}
		if deadline.After(latest) {
			latest = deadline
		}
	}
	return latest
}

// settle wakes the callers of a batch that began then.
func (q *Queue[T]) settle(batch []*entry[T], panicked any, began time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.quick = q.isQuick(began)
	for _, e := range batch {
		e.panicked = panicked
		close(e.done)
	}
}
