package lease

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// renewals makes all leases of this process last while their holders load, by one goroutine, which runs while there are any.
type renewals struct {
	leases *Leases

	mu      sync.Mutex // guards what follows
	held    map[*Lease]struct{}
	running bool
}

// hold returns a lease that was granted just now.
func (r *renewals) hold(k Keys, token string) *Lease {
	h := &Lease{leases: r.leases, keys: k, token: token}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[h] = struct{}{}
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

// run renews leases until there are none.
func (r *renewals) run() {
	const every = TTL / 3
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-r.leases.set.Closing.Done():
			return
		}
		if !r.renew() {
			return
		}
	}
}

// renew renews all leases. It reports false if there are none, and no goroutine is counted any more.
func (r *renewals) renew() bool {
	r.mu.Lock()
	held := slices.Collect(maps.Keys(r.held))
	r.running = len(held) > 0
	r.mu.Unlock()
	if len(held) == 0 {
		return false
	}
	calls := make([]call, len(held))
	for i, h := range held {
		calls[i] = call{r.leases.scripts.renew, []string{h.keys.Lease}, []any{h.token, TTL.Milliseconds()}}
	}
	replies, errs := r.leases.runMany(r.leases.set.Closing, calls)
	for i, h := range held {
		if errs[i] == nil && replies[i][0] == "refused" { // its holder learns that when it fills
			r.drop(h)
		}
	}
	return true
}
