package lock

import (
	"context"
	"sync"
)

// tasks counts what is under way, so that Close can wait for it, and says that Close has begun. Unlike a sync.WaitGroup it
// may be added to while somebody waits.
type tasks struct {
	closing context.Context //nolint:containedctx // ends with close
	cancel  context.CancelFunc
	idle    chan struct{} // closed when nothing is under way after close

	mu    sync.Mutex // guards count, and the end of closing
	count int
}

func newTasks() *tasks {
	t := &tasks{idle: make(chan struct{})}
	t.closing, t.cancel = context.WithCancel(context.Background())
	return t
}

// closed reports whether close has been called.
func (t *tasks) closed() bool { return t.closing.Err() != nil }

// begin counts work that comes from outside. It reports false after close; otherwise end must follow.
func (t *tasks) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed() {
		return false
	}
	t.count++
	return true
}

// spawn runs work that follows from other work, which goes on after close until all is done. It reports false when
// that is so.
func (t *tasks) spawn(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed() && t.count == 0 {
		return false
	}
	t.count++
	go func() {
		defer t.end()
		f()
	}()
	return true
}

func (t *tasks) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count--; t.closed() && t.count == 0 {
		close(t.idle)
	}
}

// close refuses new work from outside. It reports false if it was closed before.
func (t *tasks) close() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed() {
		return false
	}
	t.cancel()
	if t.count == 0 {
		close(t.idle)
	}
	return true
}

// wait returns when all is done after close; it reports false if ctx ends first.
func (t *tasks) wait(ctx context.Context) bool {
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
