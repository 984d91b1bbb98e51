package lease

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// renewAfter is how old a lease is when it is renewed: most loads are over by then.
	renewAfter = TTL / 3
	// renewEvery is how often it is looked whether one is. What fails is tried again then, several times within the TTL.
	renewEvery = TTL / 6
)

// renewals makes all leases of this process last while their holders load, by one goroutine, which runs while there are any.
type renewals struct {
	leases *Leases
	panics redisx.Repeated

	mu      sync.Mutex           // guards what follows
	held    map[*Lease]time.Time // since when they last for their TTL
	running bool
}

// hold returns a lease that was asked for at a time, and granted.
func (r *renewals) hold(k Keys, token string, asked time.Time) *Lease {
	h := &Lease{leases: r.leases, keys: k, token: token}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[h] = asked
	if !r.running {
		r.running = true
		r.leases.set.Go(r.run)
	}
	return h
}

// drop ends the renewal of a lease.
func (r *renewals) drop(h *Lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.held, h)
}

// renewed takes note that a lease that was held has been renewed at a time.
func (r *renewals) renewed(h *Lease, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.held[h]; ok {
		r.held[h] = at
	}
}

// run renews leases until there are none.
func (r *renewals) run() {
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-r.leases.set.Closing.Done():
			return
		}
		due, ok := r.due()
		if !ok {
			return
		}
		err := redisx.Apart(func() error { // hooks of the client have no caller here who could recover
			r.renew(due)
			return nil
		})
		if p, panicked := errors.AsType[*redisx.PanicError](err); panicked {
			r.panics.Log(r.leases.set.Log, zap.ErrorLevel, "store: a hook of the client panics while leases are renewed",
				zap.String("panic", redisx.PanicText(p.Value)))
		}
	}
}

// due returns the leases that are to be renewed. It reports false if there are none at all, and no goroutine is counted any
// more.
func (r *renewals) due() (due []*Lease, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for h, since := range r.held {
		if time.Since(since) >= renewAfter {
			due = append(due, h)
		}
	}
	r.running = len(r.held) > 0
	return due, r.running
}

// renew renews leases. What fails is tried again at the next time.
func (r *renewals) renew(due []*Lease) {
	calls := make([]call, len(due))
	for i, h := range due {
		calls[i] = call{r.leases.scripts.renew, []string{h.keys.Lease}, []any{h.token, TTL.Milliseconds()}}
	}
	now := time.Now()
	// Without the breaker: a server that answers again after a moment still has the leases.
	ask := func(ctx context.Context, _ string, f func(context.Context) error) error {
		ctx, cancel := context.WithTimeoutCause(ctx, r.leases.set.Timeout, errNoReply)
		defer cancel()
		return f(ctx)
	}
	r.leases.runMany(r.leases.set.Closing, ask, calls, func(i int, reply []any, err error) {
		switch {
		case err != nil:
		case reply[0] == "refused": // its holder learns that when it fills
			r.drop(due[i])
		default:
			r.renewed(due[i], now)
		}
	})
}
