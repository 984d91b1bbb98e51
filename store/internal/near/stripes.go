package near

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// stripeCount is how many counters there are for all keys. Keys that share one cost each other a few puts.
const stripeCount = 2048

// stripes count changes. A read notes the counter of its key before it asks Redis; what it has read is put only if the
// counter is still the same. Unlike a list of the reads under way it does not grow with them, and a read that is given up
// leaves nothing behind.
type stripes struct {
	seed maphash.Seed
	all  [stripeCount]stripe
}

type stripe struct {
	mu      sync.Mutex // makes comparing and putting one step
	changes atomic.Uint64
}

func newStripes() *stripes { return &stripes{seed: maphash.MakeSeed()} }

// of returns the stripe of a key.
func (s *stripes) of(key string) *stripe {
	return &s.all[maphash.String(s.seed, key)%stripeCount]
}

// changed counts a change, and calls remove before another value can be put.
func (s *stripe) changed(remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes.Add(1)
	remove()
}

// unchanged calls put if there was no change since a count was taken.
func (s *stripe) unchanged(count uint64, put func() bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes.Load() == count && put()
}
