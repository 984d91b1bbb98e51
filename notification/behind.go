package notification

import (
	"math"

	"github.com/compozy/cache/notification/internal/journal"
)

// What happens to a subscription that reads the journal.

// reading is where subscriptions read on after the connection was cut, or the journal was found changed.
type reading struct {
	from   journal.Position // behind this
	until  journal.Position // as far as this at least
	gone   bool             // the event at from is no longer in the journal, which goes on behind its offset at best
	filter *filter          // tells what was delivered before; nil if nothing behind from was
	forked bool             // the journal may not have the events that positions are those of
	// sparesLive says that those that are live have missed nothing.
	sparesLive bool
}

// readOn makes a subscription that has begun read the journal. The caller holds topic.mu. It reports whether it does.
func (s *Subscription) readOn(r reading) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.state == pending {
		return false
	}
	if r.sparesLive && s.state == live {
		s.at = journal.Position{}
		return false
	}
	at := r.from
	switch {
	case r.filter != nil:
		had := journal.End()
		if s.state == behind {
			had = s.at
		}
		if s.state == behind && (!r.forked || s.at.Less(at)) {
			at = s.at // of those before the place, it has still some in front of it
		} else {
			s.got, s.loose = min(s.gotSoFar(), r.filter.common.Offset), true
		}
		if len(s.changes) == maxChanges {
			oldest := s.changes[0].filter
			s.gaps.release(s.lastID, func(h *heldGap) bool { return h.filter == oldest }) // too early rather than too late
			s.changes = s.changes[1:]
		}
		s.changes = append(s.changes, change{r.filter, had})
	case r.gone:
		// What comes next may have a lower time; its offset shows that nothing is missing.
		at.Offset = s.at.Offset
		if s.state == live {
			at.Offset = max(s.at.Offset, r.from.Offset)
		}
		at.Ms = 0
		for i := range s.gaps.held {
			s.gaps.held[i].behind.Ms = 0
		}
	case s.state == behind, r.from.Less(s.at):
		at = s.at
	}
	s.at, s.until, s.state, s.waiting = at, r.until, behind, false
	if r.filter != nil || r.gone {
		s.gaps.end = r.until // positions of before have lost their meaning
	}
	return true
}

// gotSoFar returns the offset up to which a subscription has got everything. The caller holds mu.
func (s *Subscription) gotSoFar() uint64 {
	switch {
	case s.state == live, s.loose && len(s.changes) == 0: // what the latter has missed it knows, or does not want
		return math.MaxUint64
	case s.loose:
		return s.got
	default:
		return s.at.Offset
	}
}

// expired is called when the journal is empty, and everything in it has passed, up to an offset: what a subscription that is
// behind has not read is gone. The next event may have a lower time than those before. The caller holds topic.mu.
func (s *Subscription) expired(offset uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.state == pending {
		return
	}
	end := journal.Position{Offset: offset}
	s.start.Ms = 0
	s.gaps.close()
	for i := range s.gaps.held {
		s.gaps.held[i].behind.Ms = 0
	}
	if s.state == behind {
		if s.at.Offset < offset && !s.loose {
			s.hold(Gap{Reason: GapTrimmed}, spot{})
			s.logGap(GapTrimmed)
		}
		s.until, s.loose = end, false
	}
	s.at = end
}

// forget is called when positions have lost their meaning. The caller holds topic.mu.
func (s *Subscription) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == live {
		s.at = journal.Position{}
	}
}

// needs returns where a subscription is, and whether it could take messages now: a quarter of its buffer is to be empty, so
// that a slow reader does not cost a part of the journal for each message.
func (s *Subscription) needs() (at journal.Position, room, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.state != behind {
		return at, false, true
	}
	free := cap(s.messages) - len(s.messages)
	return s.at, free > 0 && (!s.waiting || 4*free >= cap(s.messages)), false
}

// verify finds out from a part how far the journal goes, which no heartbeat could say when the subscription resumed: that has to
// read as far. Where the journal has not come as far as the subscription, what is published later would otherwise pass for events
// from before.
func (s *Subscription) verify(p *part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.unsure || p.more || s.closed || s.state != behind || s.at.Less(p.from) || s.frontier.generation.Load() != p.generation {
		return
	}
	if p.behind(s.at) == len(p.entries) && s.at.Offset != p.offset && !s.loose {
		s.restart() // and is read from there, before anything is sure
		return
	}
	s.unsure = false
	if n := len(p.entries); n > 0 {
		s.until = later(s.until, p.entries[n-1].Pos)
	}
}

// follows tells of a gap if something may be missing between a subscription and what the part of the journal gives it.
func (s *Subscription) follows(p *part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.state != behind || s.frontier.generation.Load() != p.generation:
	case s.loose && s.lacks(p): // what the gaps that it holds tell of is further ahead
		s.got = math.MaxUint64 // the gap is reported once
		s.tell(Gap{Reason: GapTrimmed})
	case !s.loose && !p.follows(s.at):
		s.loose = true // likewise
		s.gaps.releaseAll(s.lastID)
		s.tell(Gap{Reason: GapTrimmed})
	}
}

// lacks reports whether a changed journal was trimmed beyond the place where the subscription was before the change: it begins
// with an event of both journals, before and after it, but others in front of that are missing. The caller holds mu.
func (s *Subscription) lacks(p *part) bool {
	if len(s.changes) == 0 || len(p.entries) == 0 || p.behind(s.at) > 0 {
		return false
	}
	first := &p.entries[0]
	return first.Size > 0 && s.got < first.Start() && s.changes[len(s.changes)-1].filter.isCommon(&first.Envelope)
}

// take gives an event of the journal to a subscription, whose message is made when it is needed. It reports whether the
// subscription got further, and whether it had room.
func (s *Subscription) take(p *part, e *journal.Entry, message func() *Message) (moved, room bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.state != behind || !s.at.Less(e.Pos) || s.frontier.generation.Load() != p.generation {
		return false, true
	}
	if len(s.changes) > 0 && s.filtered(&e.Envelope) {
		s.advance(e.Pos)
		return true, true
	}
	if s.only == "" && len(s.messages) == cap(s.messages) { // before a message is made for nothing
		s.waiting = true
		return false, false
	}
	m := message()
	if !s.wants(m) {
		s.advance(e.Pos)
		return true, true
	}
	if !s.send(m, e.Pos) {
		s.waiting = true
		return false, false
	}
	return true, true
}

// change is a change of the journal that a subscription has to catch up after.
type change struct {
	filter *filter          // tells what was delivered before
	had    journal.Position // how far the subscription had come
}

// maxChanges is how many changes in a row a subscription remembers that does not come to catch up in between. It may get an
// event twice after more.
const maxChanges = 8

// filtered reports whether an event of a journal that has changed is not for the subscription. The gap of each
// change belongs in front of the first event that is not of both journals, before and after it. The caller holds mu.
func (s *Subscription) filtered(e *journal.Envelope) bool {
	s.gaps.release(s.lastID, func(h *heldGap) bool { return h.filter != nil && !h.filter.isCommon(e) })
	if last := s.changes[len(s.changes)-1].filter; last.earlier(e) && !s.start.Less(e.Pos) {
		return true
	}
	for _, c := range s.changes {
		if !c.had.Less(e.Pos) && c.filter.known(e) {
			return true
		}
	}
	return false
}

// reach notes that everything up to a position was read.
func (s *Subscription) reach(p *part, pos journal.Position) (moved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.state != behind || !s.at.Less(pos) || s.frontier.generation.Load() != p.generation {
		return false
	}
	s.advance(pos)
	return true
}

// caughtUp makes a subscription live again that has read as far as it has to, and gives it what has passed since. What the
// connection brings and the journal gave already is recognised by its position. It reports whether it is done with.
func (s *Subscription) caughtUp(generation uint64) bool {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.state != behind {
		return true
	}
	if s.frontier.generation.Load() != generation {
		return false // it may have been given a gap already that belongs behind what passed before
	}
	s.keepRecent(true)
	if s.unsure || s.at.Less(s.until) || s.at.Less(s.topic.recent.from) {
		return false
	}
	if len(s.changes) > 0 {
		// What follows is of the journal of now.
		s.gaps.releaseAll(s.lastID)
		s.changes = nil
	}
	for _, m := range s.topic.recent.messages {
		switch {
		case !s.at.Less(m.pos):
		case !s.wants(m.Message):
			s.advance(m.pos)
		case !s.send(m.Message, m.pos):
			s.waiting = true
			return false
		}
	}
	s.goLive()
	return true
}

// goWithout makes a subscription live though the journal cannot be read, and tells it: live delivery is worth more than none.
func (s *Subscription) goWithout(limit journal.Position) {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.state != behind {
		return
	}
	s.gaps.releaseAll(s.lastID)
	s.tell(Gap{Reason: GapUnreadable})
	s.at = s.topic.passed
	if s.at.Less(limit) && limit != journal.End() {
		s.at = limit
	}
	s.goLive()
}

// goLive is called with mu and topic.mu held.
func (s *Subscription) goLive() {
	s.gaps.releaseAll(s.lastID)
	s.gaps.close()
	s.state, s.changes, s.resumes, s.loose, s.unsure, s.waiting = live, nil, false, false, false, false
	s.keepRecent(false)
}

// keepRecent says whether what passes is to be kept for the subscription, as it is behind and has room. The caller holds
// topic.mu.
func (s *Subscription) keepRecent(keep bool) {
	switch {
	case keep == s.reads:
	case keep:
		s.topic.recent.enter(s.topic.passed)
	default:
		s.topic.recent.leave()
	}
	s.reads = keep
}

// isFull says that the subscription has no room.
func (s *Subscription) isFull() {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	s.keepRecent(false)
}
