package notification

import "time"

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
	// GapFailover: another server, or another run of the server, took over; the last events before it may be missing.
	GapFailover GapReason = "failover"
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
		GapLate, GapReconnected, GapTrimmed, GapWiped, GapRolledBack, GapFailover, GapForeign, GapOverflow, GapUnreadable,
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
