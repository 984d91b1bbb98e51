package notification

// offer is what the dispatcher does with a live message for one subscription. It never blocks. It reports whether
// the message was put into the buffer, and whether the subscription now has to catch up from the journal or be
// closed. The message is shared and must not be changed.
func (s *Subscription) offer(m *Message, pos position) (delivered bool, next action) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.state == pending:
		return false, nothing
	case !pos.isZero() && !s.last.less(pos):
		// Already delivered: a copy of the same event, or the journal was read ahead of the connection.
		return false, nothing
	case s.state == replaying:
		// The journal has the event, and the replay will come to it. It never has foreign messages.
		if pos.isZero() {
			s.drop()
		}
		return false, nothing
	case s.send(m, pos):
		return true, nothing
	default:
		return s.overflow(m, pos)
	}
}

// offerRecovered is offer for an event read from the journal after a cut. What does not fit is left to the replay
// under every policy: it comes at the speed of memory, which says nothing about the subscriber's.
func (s *Subscription) offerRecovered(m *Message, pos position) (delivered, behind bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.state != live || !s.last.less(pos) {
		return false, false
	}
	if s.send(m, pos) {
		return true, false
	}
	s.state = replaying
	return false, true
}

// action is what remains to be done for a subscription after its locks were released.
type action uint8

const (
	nothing action = iota
	catchUp        // read from the journal what did not fit
	disconnect
)

// overflow applies the policy to a message that found the buffer full. The caller holds mu.
func (s *Subscription) overflow(m *Message, pos position) (delivered bool, next action) {
	switch s.system.set.policy {
	case Replay:
		if pos.isZero() {
			s.drop()
			return false, nothing
		}
		s.state = replaying
		return false, catchUp
	case DropOldest:
		// This goroutine is the only sender, so after one receive there is room, unless the reader made some.
		select {
		case oldest := <-s.messages:
			if oldest.Gap != nil {
				s.keep(*oldest.Gap)
			}
			s.drop()
		default:
		}
		return s.send(m, pos), nothing
	case Disconnect:
		s.drop()
		return false, disconnect
	default:
		s.drop()
		// What was dropped on purpose must not come back from the journal.
		s.advance(pos)
		return false, nothing
	}
}

// send puts a message into the buffer if there is room. The caller holds mu and has checked closed.
func (s *Subscription) send(m *Message, pos position) bool {
	out := m
	if s.gap != nil {
		copied := *m
		gap := *s.gap
		gap.Before = m.EventID
		if m.Gap != nil {
			gap = gap.merge(*m.Gap)
		}
		copied.Gap = &gap
		out = &copied
	}
	select {
	case s.messages <- out:
	default:
		return false
	}
	if s.flood && s.gap != nil && s.gap.Missed > 1 {
		s.push(*out.Gap) // the first drop was told at once; this is how many there were in the end
	}
	s.gap, s.flood = nil, false
	s.advance(pos)
	if m.EventID != "" {
		s.lastID = m.EventID
	}
	return true
}

func (s *Subscription) advance(pos position) {
	if s.last.less(pos) {
		s.last = pos
	}
}

// drop counts a lost message and tells of it: at once for the first of a series, then with the next message. The
// caller holds mu.
func (s *Subscription) drop() {
	s.droppedN++
	s.system.metrics.dropped.Add(1)
	if s.flood && s.gap != nil {
		gap := *s.gap
		gap.Missed++
		s.gap = &gap
		return
	}
	s.flood = true
	s.tell(Gap{Reason: GapOverflow, Missed: 1})
}

// keep takes back a gap whose message was dropped before anybody saw it. The caller holds mu.
func (s *Subscription) keep(earlier Gap) {
	if s.gap != nil {
		earlier = earlier.merge(*s.gap)
	}
	s.gap = &earlier
}
