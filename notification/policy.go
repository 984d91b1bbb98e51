package notification

import (
	"math"

	"github.com/compozy/cache/notification/internal/journal"
)

// Policy says what happens to a subscription whose buffer is full when the next message arrives live.
//
// A subscription that catches up from the journal, after a cut or with SubscribeFrom, reads as it has room, whatever its
// policy: nothing is dropped until it is live again, and PolicyDisconnect does not end it, however long nobody receives.
// What the journal no longer has by then is a GapTrimmed. Messages that are in no journal are dropped (GapForeign).
type Policy string

// The overflow policies.
const (
	// PolicyReplay stops live delivery to the subscription and reads what it missed from the journal as it catches up.
	// Nothing is lost while the journal reaches back far enough. It is the default with history; without history
	// it behaves like PolicyDropNewest.
	PolicyReplay Policy = "replay"
	// PolicyDropOldest removes the oldest message of the buffer to make room. The Gap comes with the message that the room was
	// made for, behind all that is in the buffer; what is missing came before that. So the messages in between carry no
	// Gap, though they are the ones that follow the hole. Subscription.Gaps tells of the first drop at once.
	PolicyDropOldest Policy = "drop_oldest"
	// PolicyDropNewest keeps the buffer and drops the message that arrived. It is the default without history.
	PolicyDropNewest Policy = "drop_newest"
	// PolicyDisconnect closes the subscription; its Err is then ErrSlowSubscriber.
	PolicyDisconnect Policy = "disconnect"
)

// action is what remains to be done for a subscription after its locks were released.
type action uint8

const (
	nothing action = iota
	catchUp        // read from the journal what did not fit
	disconnect
)

// offer is what is done with a live message for one subscription. It never blocks. It reports what remains to be done. The
// message is shared and must not be changed; its position is zero if it is in no journal. The caller holds topic.mu.
func (s *Subscription) offer(m *Message, pos journal.Position) action {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.state == pending:
		return nothing
	case !pos.IsZero() && !s.at.Less(pos):
		return nothing // delivered already: a copy of the same event, or the journal was read ahead of the connection
	case s.state == behind:
		// The journal has an event of ours, and the catch-up will come to it. It never has foreign messages, and these have no
		// order among ours.
		if pos.IsZero() && s.wants(m) && !s.send(m, pos) {
			s.dropForeign()
		}
		return nothing
	case !s.wants(m):
		s.advance(pos)
		return nothing
	case s.send(m, pos):
		return nothing
	default:
		return s.overflow(m, pos)
	}
}

// overflow applies the policy to a message that found the buffer full. The caller holds mu.
func (s *Subscription) overflow(m *Message, pos journal.Position) action {
	switch s.policy {
	case PolicyReplay:
		if pos.IsZero() {
			s.drop(GapForeign)
			return nothing
		}
		// Nothing in front of the event is missing, so the journal need not reach back further.
		s.state, s.at, s.until, s.loose, s.waiting = behind, justBefore(pos), pos, false, true
		return catchUp
	case PolicyDropOldest:
		// Whoever holds mu is the only sender, so after one receive there is room, unless the reader made some.
		select {
		case oldest := <-s.messages:
			if oldest.Gap != nil {
				s.gaps.keep(*oldest.Gap)
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

// justBefore returns the position that only one event can follow at once.
func justBefore(pos journal.Position) journal.Position {
	if pos.Offset == 0 {
		return journal.Position{Ms: pos.Ms - 1, Offset: math.MaxUint64}
	}
	return journal.Position{Ms: pos.Ms, Offset: pos.Offset - 1}
}

// send puts a message into the buffer if there is room. The caller holds mu and has checked closed.
func (s *Subscription) send(m *Message, pos journal.Position) bool {
	// Whoever holds mu is the only sender, so what is free stays free. It is counted first, so that its
	// receiver finds it in the metrics.
	if len(s.messages) == cap(s.messages) {
		return false
	}
	if !pos.IsZero() {
		s.gaps.release(s.lastID, func(h *heldGap) bool { return h.filter == nil && h.behind.Less(pos) })
	}
	s.metrics.delivered.Add(1)
	if m.Recovered {
		s.metrics.recovered.Add(1)
	}
	s.messages <- s.gaps.carry(m, pos)
	s.sent++
	s.advance(pos)
	// Other events have IDs of other journals. Without history, ours are in none.
	if !pos.IsZero() || m.EventID != "" && s.frontier == nil {
		s.lastID = m.EventID
	}
	return true
}

func (s *Subscription) advance(pos journal.Position) {
	if s.at.Less(pos) {
		s.at, s.loose = pos, false
	}
}

// drop counts a lost message and tells of it: at once for the first of a series, then with the next message. The
// caller holds mu.
func (s *Subscription) drop(reason GapReason) {
	s.dropped(reason)
	if s.gaps.flood != "" && s.gaps.next != nil {
		gap := *s.gaps.next
		gap.Missed++
		s.gaps.next = &gap
		s.gaps.untold++
		return
	}
	s.gaps.flood = reason
	s.note(Gap{Reason: reason, Missed: 1})
}

// dropped counts a lost message. The log hears of the first only: there may be many. The caller holds mu.
func (s *Subscription) dropped(reason GapReason) {
	if s.gaps.droppedN == 0 {
		s.logGap(reason)
	}
	s.gaps.droppedN++
	s.metrics.dropped.Add(1)
}

// dropForeign is drop for a subscription that is behind: events from before the message are still to come to it. The
// caller holds mu and topic.mu.
func (s *Subscription) dropForeign() {
	s.dropped(GapForeign)
	behindPos := s.topic.passed
	if n := len(s.gaps.held); n > 0 {
		last := &s.gaps.held[n-1]
		if last.Reason == GapForeign && (last.behind == behindPos || n >= maxHeld) {
			last.Missed++
			return
		}
	}
	s.hold(Gap{Reason: GapForeign, Missed: 1}, spot{behind: behindPos})
}
