package notification

// seenSize is how many of the last events are remembered. It has to cover what a failover can lose.
const seenSize = 1024

// seen remembers the last events that passed, so that after a journal was rolled back or wiped it can be told
// which of its events are new.
type seen struct {
	ring [seenSize]place
	next int
	set  map[place]bool // what is in the ring
}

// place is an event as the journal knows it: two histories may use the same ID, but not with the same stamp.
type place struct {
	pos   position
	stamp string
}

func (s *seen) add(e envelope) {
	if e.pos.isZero() {
		return
	}
	if s.set == nil {
		s.set = make(map[place]bool, seenSize)
	}
	p := place{e.pos, e.stamp}
	if s.set[p] {
		return
	}
	if old := s.ring[s.next]; !old.pos.isZero() {
		delete(s.set, old)
	}
	s.ring[s.next] = p
	s.set[p] = true
	s.next = (s.next + 1) % seenSize
}

func (s *seen) has(e envelope) bool { return s.set[place{e.pos, e.stamp}] }

// oldest returns the lowest position remembered, zero if there is none.
func (s *seen) oldest() position {
	var low position
	for p := range s.set {
		if low.isZero() || p.pos.less(low) {
			low = p.pos
		}
	}
	return low
}
