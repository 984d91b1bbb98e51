package notification

import "time"

// heldGap is a gap of a subscription that is behind: events from before it are still to come from the journal.
type heldGap struct {
	Gap
	behind position // it belongs in front of the first event after this place
}

// hold tells of a gap at once through Gaps, and keeps it until the replay comes to its place. The caller holds mu.
func (s *Subscription) hold(g Gap, behind position) {
	s.system.metrics.gap(g.Reason)
	g.After, g.Time = s.lastRead(), time.Now()
	s.push(g)
	if n := len(s.held); n >= maxHeld {
		last := &s.held[n-1] // told too early rather than not at all
		last.Gap = last.merge(g)
		return
	}
	s.held = append(s.held, heldGap{g, behind})
}

// maxHeld bounds how many gaps wait for their places in front of a subscription that is behind.
const maxHeld = 64

// dropForeign is drop for a subscription that is behind: events from before the message are still to come to it. The
// caller holds mu and topic.mu.
func (s *Subscription) dropForeign() {
	s.dropped(GapForeign)
	behind := s.topic.passed
	if n := len(s.held); n > 0 {
		last := &s.held[n-1]
		if last.Reason == GapForeign && (last.behind == behind || n >= maxHeld) {
			last.Missed++
			return
		}
	}
	s.hold(Gap{Reason: GapForeign, Missed: 1}, behind)
}

// lastRead returns the ID of the last event that was delivered or is about to be. The caller holds mu.
func (s *Subscription) lastRead() string {
	if n := len(s.backlog); n > 0 {
		return s.backlog[n-1].EventID
	}
	return s.lastID
}

// release puts the gaps that belong in front of an event into its message, which only this subscription has. The
// caller holds mu.
func (s *Subscription) release(m *Message, pos position) {
	later := s.held[:0]
	for _, h := range s.held {
		if !h.behind.less(pos) {
			later = append(later, h)
			continue
		}
		g := h.Gap
		g.After, g.Before = s.lastRead(), m.EventID
		if m.Gap != nil {
			g = m.Gap.merge(g)
		}
		m.Gap = &g
	}
	s.held = later
}

// releaseAll makes the gaps go with the next message, now that nothing from before them can come. The caller holds mu.
func (s *Subscription) releaseAll() {
	for _, h := range s.held {
		h.After = s.lastID
		s.add(h.Gap)
	}
	s.held = nil
}

// add puts a gap with those that the next message will carry. The caller holds mu.
func (s *Subscription) add(g Gap) {
	if s.gap != nil {
		g = s.gap.merge(g)
	}
	s.gap = &g
}
