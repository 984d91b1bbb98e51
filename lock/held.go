package lock

import (
	"maps"
	"slices"
	"sync"
)

// held is the locks that a manager has given out and that have not ended.
type held struct {
	mu     sync.Mutex // guards what follows
	locks  map[*RedisLock]struct{}
	closed bool
}

func newHeld() *held { return &held{locks: make(map[*RedisLock]struct{})} }

// add enters a lock. It reports false when the manager is closing.
func (h *held) add(l *RedisLock) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.locks[l] = struct{}{}
	return true
}

// remove takes a lock out, if it is in.
func (h *held) remove(l *RedisLock) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.locks, l)
}

// len returns how many there are.
func (h *held) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.locks)
}

// close returns all, and lets none in any more.
func (h *held) close() []*RedisLock {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	return slices.Collect(maps.Keys(h.locks))
}
