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
	// What is missing came after it, but with PolicyDropOldest before the messages that were in the buffer then, and where a server
	// that changes its role keeps its connections maybe up to a heartbeat interval before: After is no place to read on from.
	After string
	// Before is the event ID of the first event behind all that is missing, which is that of the message with the gap. It is empty in
	// what Gaps delivers, as it is not known then, and if the message has no ID.
	//
	// It is also empty where more may be missing behind the message. After a failover, a restart or a loss of data, a subscription gets
	// what the server has of the time before that was noticed, and nobody knows where in between something was lost. So the gap is
	// open, and comes once more, with the same After, with the first message behind all of that, which is Before.
	Before string
	// Missed counts the messages known to be lost; 0 means that their number is unknown. Of a group of Consume it is at most so
	// many: those that functions were at work on count, and may be done.
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
	open     *Gap      // may go on for as far as end; then it goes with a message once more
	end      journal.Position
	flood    GapReason // why messages are being dropped since the last delivery, if they are
	untold   uint64    // how many of them have not been sent to out
	droppedN uint64
}

// heldGap is a gap of a subscription that is behind: events from before it are still to come from the journal.
type heldGap struct {
	Gap
	spot
}

// spot is where in the journal events may be missing: from the first event behind a position.
type spot struct {
	behind journal.Position
	filter *filter // of a change of the journal: from the first event that is not of both journals, the one before and the one after
	// open says that a subscription may get events from in front of what is missing behind the first one, as nobody knows which
	// these are.
	open openness
}

// openness is for whom a gap is open.
type openness uint8

const (
	closed     openness = iota // nobody
	openBehind                 // those that had not got everything from before
	openAll
)

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

// hold keeps a gap until its place is reached.
func (g *gaps) hold(gap Gap, at spot) {
	if n := len(g.held); n >= maxHeld {
		last := &g.held[n-1] // too early rather than not at all
		last.Gap, last.open = last.merge(gap), max(last.open, at.open)
		return
	}
	g.held = append(g.held, heldGap{gap, at})
}

// release makes the gaps go with the next message whose place is reached, now that the event with the ID given was the last
// before them.
func (g *gaps) release(lastID string, reached func(*heldGap) bool) {
	if len(g.held) == 0 {
		return
	}
	kept := g.held[:0]
	for _, h := range g.held {
		if !reached(&h) {
			kept = append(kept, h)
			continue
		}
		h.After = lastID
		g.add(h.Gap)
		if h.open != closed {
			g.leaveOpen()
		}
	}
	clear(g.held[len(kept):])
	g.held = kept
}

// releaseAll makes all gaps go with the next message, now that nothing from before them can come.
func (g *gaps) releaseAll(lastID string) { g.release(lastID, func(*heldGap) bool { return true }) }

// leaveOpen notes that more of what the next message tells of may be missing further ahead.
func (g *gaps) leaveOpen() {
	gap := *g.next
	gap.Missed = 0 // those are in front of that message
	if g.open != nil {
		gap = g.open.merge(gap)
	}
	g.open = &gap
}

// close makes the gap that was left open go with the next message, as nothing more is missing behind it.
func (g *gaps) close() {
	if g.open != nil {
		g.keep(*g.open)
		g.open = nil
	}
}

// carry returns a message with the gap that goes with it, which then has been reported. The message may be shared, so
// one with a gap is a copy.
func (g *gaps) carry(m *Message, pos journal.Position) *Message {
	if g.end.Less(pos) {
		g.close()
	}
	if g.next == nil {
		return m
	}
	carrier, gap := *m, *g.next
	if gap.Before = m.EventID; g.open != nil {
		gap.Before = ""
	}
	carrier.Gap = &gap
	if g.untold > 0 {
		more := gap // the first drop was reported at once; these are the others
		more.Reason, more.Missed = g.flood, g.untold
		g.push(more)
	}
	g.next, g.flood, g.untold = nil, "", 0
	return &carrier
}

// missed tells of a gap, unless the subscription had not begun. It reports whether it did. If the gap is open for the
// subscription, it has to read on then.
func (s *Subscription) missed(reason GapReason, at spot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.state == pending:
		return false
	case s.state == behind:
		s.hold(Gap{Reason: reason}, at)
	default:
		s.note(Gap{Reason: reason})
		if at.open == openAll {
			s.gaps.leaveOpen()
		}
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
func (s *Subscription) hold(g Gap, at spot) {
	s.metrics.gap(g.Reason)
	g.After, g.Time = s.lastID, time.Now()
	s.gaps.push(g)
	s.gaps.hold(g, at)
}
