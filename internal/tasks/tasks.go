// Package tasks counts what is under way, so that Close can wait for it.
package tasks

import (
	"context"
	"sync"
)

// Tasks counts calls and goroutines, and says that Close has been called. Unlike a sync.WaitGroup it may be added to while
// somebody waits. It is safe for concurrent use; make one with [New].
type Tasks struct {
	closing context.Context //nolint:containedctx // ends with Close
	cancel  context.CancelFunc
	idle    chan struct{} // closed when nothing is under way after Close

	mu    sync.Mutex // guards count, and the end of closing
	count int
}

// New returns Tasks of which none is under way.
func New() *Tasks {
	t := &Tasks{idle: make(chan struct{})}
	t.closing, t.cancel = context.WithCancel(context.Background())
	return t
}

// Closing returns a context that ends with Close.
func (t *Tasks) Closing() context.Context { return t.closing }

// Closed reports whether Close has been called.
func (t *Tasks) Closed() bool { return t.closing.Err() != nil }

// Begin counts a call, which comes from outside. It reports false after Close; otherwise End must follow.
func (t *Tasks) Begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.Closed() {
		return false
	}
	t.count++
	return true
}

// End ends what Begin has counted.
func (t *Tasks) End() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count--; t.Closed() && t.count == 0 {
		close(t.idle)
	}
}

// Spawn runs f in a goroutine that is counted. f follows from other work, which goes on after Close until all is done; then
// Spawn reports false and runs nothing.
func (t *Tasks) Spawn(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.Closed() && t.count == 0 {
		return false
	}
	t.count++
	go func() {
		defer t.End()
		f()
	}()
	return true
}

// Go is Spawn for what has to run in any case: when all is done after Close, f runs uncounted.
func (t *Tasks) Go(f func()) {
	if !t.Spawn(f) {
		go f()
	}
}

// Close refuses calls from now on. It reports false if it was called before.
func (t *Tasks) Close() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.Closed() {
		return false
	}
	t.cancel()
	if t.count == 0 {
		close(t.idle)
	}
	return true
}

// Wait returns when nothing is under way after Close; it reports false if ctx ends first.
func (t *Tasks) Wait(ctx context.Context) bool {
	select {
	case <-t.idle:
		return true
	default:
	}
	select {
	case <-t.idle:
		return true
	case <-ctx.Done():
		return false
	}
}
