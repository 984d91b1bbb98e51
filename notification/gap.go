package notification

import (
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/notification/internal/journal"
)

// GapReason says why events may be missing.
type GapReason string

// The reasons for a gap.
const (
	// GapLate: Redis did not confirm the subscription in time, so what was published until it did is missing.
	GapLate GapReason = "late"
	// GapReconnected: the connection was cut and history is off, so what was published meanwhile is missing.
	GapReconnected GapReason = "reconnected"
	// GapTrimmed: the journal does not reach back far enough.
	GapTrimmed GapReason = "trimmed"
	// GapWiped: the journal was deleted, or Redis restarted without its data.
	GapWiped GapReason = "wiped"
	// GapRolledBack: Redis came back with an older state of the journal.
	GapRolledBack GapReason = "rolled_back"
	// GapFailover: another server took over; the last events before it may be missing.
	GapFailover GapReason = "failover"
	// GapRestarted: the server was restarted; the last events before it may be missing if it had not written them to disk.
	GapRestarted GapReason = "restarted"
	// GapForeign: other programs publish to this subscription's channels; what they sent while it was cut off or behind,
	// or had no room for it, is in no journal.
	GapForeign GapReason = "foreign"
	// GapOverflow: the subscriber was too slow and its policy drops messages.
	GapOverflow GapReason = "overflow"
	// GapUnreadable: the journal could not be read, for example for lack of permission.
	GapUnreadable GapReason = "unreadable"
)

// gapReasons returns every reason, so that each has its metric from the start.
func gapReasons() []GapReason {
	return []GapReason{
		GapLate, GapReconnected, GapTrimmed, GapWiped, GapRolledBack, GapFailover, GapRestarted, GapForeign, GapOverflow,
		GapUnreadable,
	}
}

// Gap tells a subscriber that events may be missing at this place of its stream. A gap is a warning, not a proof:
// after a failover, for instance, nobody can know whether the old server had accepted more.
type Gap struct {
	Reason GapReason
	// After is the event ID of the last event put into the buffer before the gap was noticed, empty if there was none.
	// What is missing came after it, but with PolicyDropOldest before the messages that were in the buffer then: After is no
	// place to read on from.
	After string
	// Before is the event ID of the first event known to lie behind the gap, empty if none was known yet.
	Before string
	// Missed counts the messages known to be lost; 0 means that their number is unknown.
	Missed uint64
	// Time is when the gap was noticed, on this machine's clock.
	Time time.Time
}

// merge returns one gap that covers g and the later one.
func (g Gap) merge(later Gap) Gap {
	merged := later
	merged.After, merged.Missed = g.After, g.Missed+later.Missed
	if later.Reason.weight() < g.Reason.weight() {
		merged.Reason = g.Reason
	}
	return merged
}

// weight orders reasons by how much they tell: messages that found no room are less than what else may be missing.
func (r GapReason) weight() int {
	switch r {
	case GapOverflow:
		return 0
	case GapForeign:
		return 1
	default:
		return 2
	}
}

// gaps is what a subscription has to tell. It is guarded by the mutex of the subscription.
type gaps struct {
	out      chan Gap
	next     *Gap      // goes with the next message
	held     []heldGap // go with later ones
	flood    GapReason // why messages are being dropped since the last delivery, if they are
	untold   uint64    // how many of them have not been sent to out
	droppedN uint64
}

// heldGap is a gap of a subscription that is behind: events from before it are still to come from the journal.
type heldGap struct {
	Gap
	behind journal.Position // it belongs in front of the first event after this one
}

const (
	// gapBuffer is how many gaps wait for a reader of Gaps before they are merged.
	gapBuffer = 4
	// maxHeld bounds how many gaps wait for their places in front of a subscription that is behind.
	maxHeld = 64
)

// push hands a gap to the reader of Gaps; if there is none, earlier gaps are merged into it. Nobody else sends.
func (g *gaps) push(gap Gap) {
	select {
	case g.out <- gap:
		return
	default:
	}
	select {
	case earlier := <-g.out:
		gap = earlier.merge(gap)
	default:
	}
	select {
	case g.out <- gap:
	default:
	}
}

// add puts a gap with those that the next message will carry.
func (g *gaps) add(gap Gap) {
	if g.next != nil {
		gap = g.next.merge(gap)
	}
	g.next = &gap
}

// keep takes back a gap whose message was dropped before anybody saw it.
func (g *gaps) keep(earlier Gap) {
	if g.next != nil {
		earlier = earlier.merge(*g.next)
	}
	g.next = &earlier
}

// hold keeps a gap until the place behind a position is reached.
func (g *gaps) hold(gap Gap, behind journal.Position) {
	if n := len(g.held); n >= maxHeld {
		last := &g.held[n-1] // too early rather than not at all
		last.Gap = last.merge(gap)
		return
	}
	g.held = append(g.held, heldGap{gap, behind})
}

// release makes the gaps go with the next message that belong in front of an event, now that the event with the ID given was
// the last before it.
func (g *gaps) release(before journal.Position, lastID string) {
	if len(g.held) == 0 {
		return
	}
	kept := g.held[:0]
	for _, h := range g.held {
		if !h.behind.Less(before) {
			kept = append(kept, h)
			continue
		}
		h.After = lastID
		g.add(h.Gap)
	}
	g.held = kept
}

// releaseAll makes all gaps go with the next message, now that nothing from before them can come.
func (g *gaps) releaseAll(lastID string) {
	for _, h := range g.held {
		h.After = lastID
		g.add(h.Gap)
	}
	g.held = nil
}

// carry returns a message with the gap that goes with it, which then has been reported. The message may be shared, so
// one with a gap is a copy.
func (g *gaps) carry(m *Message) *Message {
	if g.next == nil {
		return m
	}
	carrier, gap := *m, *g.next
	gap.Before = m.EventID
	carrier.Gap = &gap
	if g.untold > 0 {
		more := gap // the first drop was reported at once; these are the others
		more.Reason, more.Missed = g.flood, g.untold
		g.push(more)
	}
	g.next, g.flood, g.untold = nil, "", 0
	return &carrier
}

// missed tells of a gap behind a position, unless the subscription had not begun. It reports whether it did.
func (s *Subscription) missed(reason GapReason, behindPos journal.Position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.state == pending:
		return false
	case s.state == behind:
		s.hold(Gap{Reason: reason}, behindPos)
	default:
		s.note(Gap{Reason: reason})
	}
	return true
}

// note tells of a gap, for the next message and through Gaps. The log hears of gaps that many have from others. The caller
// holds mu.
func (s *Subscription) note(g Gap) {
	if s.closed {
		return
	}
	s.metrics.gap(g.Reason)
	g.After, g.Time = s.lastID, time.Now()
	s.gaps.push(g)
	s.gaps.add(g)
}

// tell is note for a gap that concerns this subscription alone. The caller holds mu.
func (s *Subscription) tell(g Gap) {
	s.note(g)
	s.logGap(g.Reason)
}

func (s *Subscription) logGap(reason GapReason) {
	s.log.Warn("notification: events may be missing", zap.String("reason", string(reason)), zap.String("name", s.pattern))
}

// hold tells of a gap at once through Gaps, and keeps it until the catch-up comes to its place. The caller holds mu.
func (s *Subscription) hold(g Gap, behindPos journal.Position) {
	s.metrics.gap(g.Reason)
	g.After, g.Time = s.lastID, time.Now()
	s.gaps.push(g)
	s.gaps.hold(g, behindPos)
}
