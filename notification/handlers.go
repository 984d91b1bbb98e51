package notification

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// handlers are the calls of Handle under way. Its zero value is ready.
type handlers struct {
	mu    sync.Mutex
	calls map[*handlerCall]struct{} // guarded by mu
}

// handlerCall is one of them.
type handlerCall struct {
	idle chan struct{} // unbuffered: what is sent is received while no function runs
	over chan struct{} // closed when the call returns
}

// begin notes a call, which receives from idle whenever it waits for a message, and calls end when it returns. A count of the
// functions that run would not do: between a message's leaving the buffer and the function's beginning, nothing would count.
func (h *handlers) begin() (idle <-chan struct{}, end func()) {
	call := &handlerCall{idle: make(chan struct{}), over: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.calls == nil {
		h.calls = make(map[*handlerCall]struct{})
	}
	h.calls[call] = struct{}{}
	return call.idle, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.calls, call)
		close(call.over)
	}
}

// wait waits until each call has been without a running function, or has returned. It returns the cause of ctx if that ends
// before.
func (h *handlers) wait(ctx context.Context) error {
	h.mu.Lock()
	calls := slices.Collect(maps.Keys(h.calls))
	h.mu.Unlock()
	for _, call := range calls {
		select {
		case call.idle <- struct{}{}:
			continue
		case <-call.over:
			continue
		default: // so that a context that has ended already does not win
		}
		select {
		case call.idle <- struct{}{}:
		case <-call.over:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
