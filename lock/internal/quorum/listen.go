package quorum

import (
	"context"
	"sync"
	"time"

	"github.com/compozy/cache/lock/internal/store"
)

// hintDelay is how long to wait for the other servers after the first has let a waiter know of a release.
const hintDelay = 10 * time.Millisecond

// Listen reads the inboxes on all servers until ctx ends. It passes on that the lock was released when a majority has
// said so, or shortly after the first: the others may be down. The rest is passed on as it comes.
func (q *Quorum) Listen(ctx context.Context, channel string, l store.Listener) {
	h := &hints{ctx: ctx, majority: q.majority(), to: l, heard: make(map[string]int)}
	var all sync.WaitGroup
	for _, n := range q.nodes {
		all.Go(func() { n.Listen(ctx, channel, h) })
	}
	all.Wait()
}

// hints collects the messages of several servers.
type hints struct {
	ctx      context.Context //nolint:containedctx // ends the timers
	majority int
	to       store.Listener

	mu    sync.Mutex     // guards what follows
	heard map[string]int // servers that have let a waiter know, by its name
}

// Hear implements store.Listener.
func (h *hints) Hear(hint store.Hint) {
	if hint.Looked {
		h.to.Hear(hint)
		return
	}
	h.mu.Lock()
	h.heard[hint.Name]++
	n := h.heard[hint.Name]
	h.mu.Unlock()
	if n >= h.majority {
		h.pass(hint)
	} else if n == 1 {
		time.AfterFunc(hintDelay, func() { h.pass(hint) })
	}
}

// pass passes a hint on, unless that was done.
func (h *hints) pass(hint store.Hint) {
	h.mu.Lock()
	_, open := h.heard[hint.Name]
	delete(h.heard, hint.Name)
	h.mu.Unlock()
	if open && h.ctx.Err() == nil {
		h.to.Hear(hint)
	}
}

// Up implements store.Listener.
func (h *hints) Up() { h.to.Up() }

// Down implements store.Listener.
func (h *hints) Down(err error) { h.to.Down(err) }
