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
// said so, or shortly after the first: the others may be down. Other messages are passed on as they come. Inboxes on a
// majority will do, as a release is executed by a majority.
func (q *Quorum) Listen(ctx context.Context, channel string, l store.Listener) {
	h := &hints{
		Listener: l, ctx: ctx, nodes: q.nodes, heard: make(map[string]int), inboxes: make([]inboxState, len(q.nodes)),
	}
	q.nodes.each(func(n *node) { n.Listen(ctx, channel, inbox{h, n.index}) })
}

// inbox is that on one server.
type inbox struct {
	*hints

	index int
}

// inboxState is what was last heard of an inbox.
type inboxState uint8

const (
	connecting inboxState = iota
	up
	down
)

// Up implements store.Listener. It is passed on if a majority is up, each time, as the messages that were lost may be those
// of a server that was up when others were down.
func (b inbox) Up() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.become(b.index, up) >= b.nodes.majority() {
		b.Listener.Up()
	}
}

// Down implements store.Listener. It is passed on if no majority can be up.
func (b inbox) Down(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.become(b.index, down) > b.nodes.minority() {
		b.Listener.Down(err)
	}
}

// hints collects the messages of several servers.
type hints struct {
	store.Listener

	ctx   context.Context //nolint:containedctx // ends the timers
	nodes nodes

	mu      sync.Mutex   // guards what follows
	inboxes []inboxState // by server
	// heard counts the servers that have let a waiter know, by its name, for a moment after the first. 0 says that it was
	// passed on.
	heard map[string]int
}

// become notes the state of an inbox, and returns how many are in it. The caller holds mu.
func (h *hints) become(index int, state inboxState) (count int) {
	h.inboxes[index] = state
	for _, s := range h.inboxes {
		if s == state {
			count++
		}
	}
	return count
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
	case n+1 >= h.nodes.majority() && n > 0:
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
