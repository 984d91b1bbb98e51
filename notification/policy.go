package notification

// offer is what the dispatcher does with a live message for one subscription. It never blocks. It reports whether the
// subscription now has to catch up from the journal or be closed. The message is shared and must not be changed. The
// event of its name that passed before is given, if it is in the journal, and the number under which this one is remembered
// if it passed in another history. The caller holds topic.mu.
func (s *Subscription) offer(m *Message, pos, before position, was uint64) action {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.state == pending:
		return nothing
	case !pos.isZero() && !s.last.less(pos):
		// Already delivered: a copy of the same event, or the journal was read ahead of the connection.
		return nothing
	case s.state == replaying:
		// The journal has the event, and the replay will come to it. It never has foreign messages.
		switch {
		case !pos.isZero():
			s.leave(pos, before)
		case s.wants(m):
			s.dropForeign()
		}
		return nothing
	case !s.wants(m):
		s.advance(pos)
		return nothing
	case s.has(was):
		s.advance(pos) // or it would come across it in the journal, should it fall behind
		return nothing
	case s.send(m, pos):
		return nothing
	default:
		return s.overflow(m, pos)
	}
}

// offerRecovered is offer for an event read from the journal after a cut. What does not fit is left to the replay
// under every policy: it comes at the speed of memory, which says nothing about the subscriber's.
func (s *Subscription) offerRecovered(m *Message, pos, before position, was uint64) action {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.state == pending || !s.last.less(pos):
		return nothing
	case s.state == replaying:
		s.leave(pos, before)
		return nothing
	case s.has(was) || !s.wants(m):
		s.advance(pos)
		return nothing
	case s.send(m, pos):
		return nothing
	default:
		return s.fallBehind(pos)
	}
}

// fallBehind leaves an event to the replay, and all that follow it. The caller holds mu.
func (s *Subscription) fallBehind(pos position) action {
	s.state, s.next = replaying, pos
	return catchUp
}

// leave notes an event that is left to a replay, if all of its name before it was read: it is then the first one. What
// comes before it in the journal may be forgotten. The caller holds mu.
func (s *Subscription) leave(pos, before position) {
	if !s.resumes && s.next.isZero() && !s.last.less(before) {
		s.next = pos
	}
}

// action is what remains to be done for a subscription after its locks were released.
type action uint8

const (
	nothing action = iota
	catchUp        // read from the journal what did not fit
	disconnect
)

// overflow applies the policy to a message that found the buffer full. The caller holds mu.
func (s *Subscription) overflow(m *Message, pos position) action {
	switch s.system.set.policy {
	case PolicyReplay:
		if pos.isZero() {
			s.drop(GapForeign)
			return nothing
		}
		return s.fallBehind(pos)
	case PolicyDropOldest:
		// This goroutine is the only sender, so after one receive there is room, unless the reader made some.
		select {
		case oldest := <-s.messages:
			if oldest.Gap != nil {
				s.keep(*oldest.Gap)
			}
			s.drop(GapOverflow)
		default:
		}
		s.send(m, pos)
		return nothing
	case PolicyDisconnect:
		s.drop(GapOverflow)
		return disconnect
	default:
		s.drop(GapOverflow)
		// What was dropped on purpose must not come back from the journal.
		s.advance(pos)
		return nothing
	}
}

// send puts a message into the buffer if there is room. The caller holds mu and has checked closed.
func (s *Subscription) send(m *Message, pos position) bool {
	// Whoever holds mu is the only sender, so what is free stays free. It is counted first: who has received it, finds
	// it in the metrics.
	if len(s.messages) == cap(s.messages) {
		return false
	}
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
	s.system.metrics.delivered.Add(1)
	if m.Recovered {
		s.system.metrics.recovered.Add(1)
	}
	s.messages <- out
	if s.untold > 0 {
		more := *out.Gap // the first drop was told at once; these are the others
		more.Reason, more.Missed = s.flood, s.untold
		s.push(more)
	}
	s.gap, s.flood, s.untold = nil, "", 0
	s.advance(pos)
	// Other events have IDs of other journals. Without history, ours are in none.
	if m.Recovered || !pos.isZero() || m.EventID != "" && s.system.set.history == 0 {
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
func (s *Subscription) drop(reason GapReason) {
	s.dropped(reason)
	if s.flood != "" && s.gap != nil {
		gap := *s.gap
		gap.Missed++
		s.gap = &gap
		s.untold++
		return
	}
	s.flood = reason
	s.tell(Gap{Reason: reason, Missed: 1})
}

// dropped counts a lost message. The log hears of the first only: there may be many. The caller holds mu.
func (s *Subscription) dropped(reason GapReason) {
	if s.droppedN == 0 {
		s.log(reason)
	}
	s.droppedN++
	s.system.metrics.dropped.Add(1)
}

// keep takes back a gap whose message was dropped before anybody saw it. The caller holds mu.
func (s *Subscription) keep(earlier Gap) {
	if s.gap != nil {
		earlier = earlier.merge(*s.gap)
	}
	s.gap = &earlier
}
