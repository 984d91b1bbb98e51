package store

import (
	"context"
	"sync"
)

// gate counts the calls and the background work of a Store, so that Close can wait for them.
type gate struct {
	closing context.Context //nolint:containedctx // ends with close
	cancel  context.CancelFunc
	idle    chan struct{} // closed when nothing is under way after close

	mu    sync.Mutex // guards count, and the end of closing
	count int
}

func newGate() *gate {
	g := &gate{idle: make(chan struct{})}
	g.closing, g.cancel = context.WithCancel(context.Background())
	return g
}

// closed reports whether close has been called.
func (g *gate) closed() bool { return g.closing.Err() != nil }

// enter counts a call. It reports false after close; otherwise leave must follow.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed() {
		return false
	}
	g.count++
	return true
}

// leave ends what enter has counted.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.count--; g.closed() && g.count == 0 {
		close(g.idle)
	}
}

// spawn runs work in a goroutine. After close that is only counted while something else is, and runs all the same: a
// call that gave up may leave a command behind, which ends by itself.
func (g *gate) spawn(f func()) {
	g.mu.Lock()
	counted := !g.closed() || g.count > 0
	if counted {
		g.count++
	}
	g.mu.Unlock()
	go func() {
		if counted {
			defer g.leave()
		}
		f()
	}()
}

// close refuses new calls. It may be called again.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed() {
		return
	}
	g.cancel()
	if g.count == 0 {
		close(g.idle)
	}
}

// wait returns when nothing is under way after close; it reports false if ctx ends first.
func (g *gate) wait(ctx context.Context) bool {
	select {
	case <-g.idle:
		return true
	default:
	}
	select {
	case <-g.idle:
		return true
	case <-ctx.Done():
		return false
	}
}
