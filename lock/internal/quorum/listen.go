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
	h := &hints{Listener: l, ctx: ctx, majority: q.nodes.majority(), heard: make(map[string]int)}
	q.nodes.each(func(n *node) { n.Listen(ctx, channel, h) })
}

// hints collects the messages of several servers.
type hints struct {
	store.Listener

	ctx      context.Context //nolint:containedctx // ends the timers
	majority int

	mu sync.Mutex // guards heard
	// heard counts the servers that have let a waiter know, by its name, for a moment after the first. 0 says that it was
	// passed on.
	heard map[string]int
}

// Hear implements store.Listener.
func (h *hints) Hear(hint store.Hint) {
	if hint.Rechecked {
		h.Listener.Hear(hint)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	n, known := h.heard[hint.Name]
	switch {
	case !known:
		h.heard[hint.Name] = 1
		time.AfterFunc(hintDelay, func() { h.end(hint) })
	case n+1 >= h.majority && n > 0:
		h.heard[hint.Name] = 0
		h.Listener.Hear(hint)
	case n > 0:
		h.heard[hint.Name]++
	}
}

// end passes a hint on, unless that was done, and forgets it.
func (h *hints) end(hint store.Hint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.heard[hint.Name]
	delete(h.heard, hint.Name)
	if n > 0 && h.ctx.Err() == nil {
		h.Listener.Hear(hint)
	}
}
