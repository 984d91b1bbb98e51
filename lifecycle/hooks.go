package lifecycle

import (
	"context"
	"errors"
	"sync"

	"go.uber.org/fx"
)

// Hooks is an [fx.Lifecycle] for use without Fx. It differs from Fx in one
// point: what has been started is stopped again even when the start context was
// cancelled or ran out. Fx skips the stop hooks then, which its users can
// afford, since their process ends; a caller of cache.SetupCache goes on.
//
// The zero value is ready. It is safe for concurrent use, but a hook must not call
// the Hooks that run it.
type Hooks struct {
	mu      sync.Mutex // guards the fields below, and makes Start and Stop exclude each other
	hooks   []fx.Hook
	started int // hooks[:started] are to be stopped
}

var _ fx.Lifecycle = (*Hooks)(nil)

// Append adds a hook behind those that are there.
func (h *Hooks) Append(hook fx.Hook) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hooks = append(h.hooks, hook)
}

// Start runs the start hooks in order. When one fails it stops those before it,
// with a budget of its own, and returns the error of the start, joined with
// those of the stop. When one panics it does the same, and the panic goes on.
func (h *Hooks) Start(ctx context.Context) (err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	done := false
	// Deferred, as a hook may panic or end its goroutine.
	defer func() {
		if done {
			return
		}
		rollback, cancel := context.WithTimeout(context.WithoutCancel(ctx), defaultBudget)
		defer cancel()
		err = errors.Join(err, h.stop(rollback))
	}()
	for _, hook := range h.hooks[h.started:] {
		if hook.OnStart != nil {
			if err := hook.OnStart(ctx); err != nil {
				return err
			}
		}
		h.started++
	}
	done = true
	return nil
}

// Stop runs the stop hooks of what was started, in reverse order, all of them
// whatever errors come, and returns these joined. When one panics the others run
// all the same, and the panic goes on. Stopping what is stopped, or was never
// started, returns nil.
func (h *Hooks) Stop(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stop(ctx)
}

func (h *Hooks) stop(ctx context.Context) (err error) {
	if h.started == 0 {
		return nil
	}
	h.started--
	// Deferred, as a hook may panic or end its goroutine.
	defer func() { err = errors.Join(err, h.stop(ctx)) }()
	if hook := h.hooks[h.started]; hook.OnStop != nil {
		return hook.OnStop(ctx)
	}
	return nil
}
