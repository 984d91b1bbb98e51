package client

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// gate decides whether connections may be opened: not yet, yes, or not any more.
// go-redis would otherwise connect whenever it likes, long before the application
// has started and although its start may fail.
type gate struct {
	state  atomic.Int32
	inside atomic.Int64 // how many commands are under way
	// done is cancelled by close, which ends connections being opened as well.
	done   context.Context
	cancel context.CancelFunc
}

const (
	gateShut int32 = iota
	gateOpen
	gateClosed
)

func newGate() *gate {
	g := &gate{}
	g.done, g.cancel = context.WithCancel(context.Background())
	return g
}

// open reports whether it changed anything, so that only the first of several opens has
// effects. A closed gate stays closed, as the pools behind it are gone.
func (g *gate) open() bool { return g.state.CompareAndSwap(gateShut, gateOpen) }

// refuse is the first half of close: what is under way may still end well.
func (g *gate) refuse() { g.state.Store(gateClosed) }

// close also ends all connections, those being opened included.
func (g *gate) close() {
	g.refuse()
	g.cancel()
}

// enter returns nil for a command that may begin, whose caller then calls leave when it
// has ended, or the reason why it may not.
func (g *gate) enter() error {
	g.inside.Add(1)
	if g.state.Load() == gateOpen {
		return nil
	}
	g.leave()
	return g.check()
}

func (g *gate) leave() { g.inside.Add(-1) }

// drain waits until no command is under way, or until ctx ends. It is for after
// refuse, which lets no other begin.
func (g *gate) drain(ctx context.Context) {
	for g.inside.Load() > 0 {
		if redisx.Sleep(ctx, time.Millisecond) != nil {
			return
		}
	}
}

// check returns the reason why the gate is not open, or nil.
func (g *gate) check() error {
	switch g.state.Load() {
	case gateOpen:
		return nil
	case gateShut:
		return ErrNotStarted
	default:
		return redis.ErrClosed // which callers of go-redis know
	}
}

// blame replaces the "operation was canceled" of what Close interrupted.
func (g *gate) blame(err error) error {
	if g.done.Err() != nil {
		return redis.ErrClosed
	}
	return err
}
