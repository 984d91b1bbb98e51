package lock

import "sync"

// held is the locks that a manager has given out, as a list whose links are in the locks themselves: entering and
// leaving costs next to nothing.
type held struct {
	mu     sync.Mutex // guards what follows, and the links of all locks
	first  *RedisLock
	count  int
	closed bool
}

// links is a lock's place in the list. listed says whether it has one.
type links struct {
	listed         bool
	previous, next *RedisLock
}

// add enters a lock. It reports false when the manager is closing.
func (h *held) add(l *RedisLock) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	l.links = links{listed: true, next: h.first}
	if h.first != nil {
		h.first.links.previous = l
	}
	h.first = l
	h.count++
	return true
}

// remove takes a lock out, if it is in.
func (h *held) remove(l *RedisLock) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := l.links
	if !at.listed {
		return
	}
	if at.previous != nil {
		at.previous.links.next = at.next
	} else {
		h.first = at.next
	}
	if at.next != nil {
		at.next.links.previous = at.previous
	}
	l.links = links{}
	h.count--
}

// len returns how many there are.
func (h *held) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

// close takes all out and lets none in any more.
func (h *held) close() []*RedisLock {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	all := make([]*RedisLock, 0, h.count)
	for h.first != nil {
		l := h.first
		h.first = l.links.next
		l.links = links{}
		all = append(all, l)
	}
	h.count = 0
	return all
}
