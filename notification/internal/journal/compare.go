package journal

// Reason is why events may be missing; it has the text of the gap's reason.
type Reason string

// The reasons that a comparison finds.
const (
	None       Reason = ""            // nothing can be missing
	Wiped      Reason = "wiped"       // the data of the server was lost, the journal's with it
	Trimmed    Reason = "trimmed"     // events after the cursor are no longer in the journal
	RolledBack Reason = "rolled_back" // the journal lost its end, and may have gone on from there
	Failover   Reason = "failover"    // another server has taken over, which may not have had the last events
	Restarted  Reason = "restarted"   // the server was restarted, and may not have written its last events to disk
)

// Known is what is known of the journal from before.
type Known struct {
	Epoch    string   // empty if nothing is known
	Cursor   Envelope // the last event that has passed; see also [Status.Cursor]
	Identity Identity
	Oldest   Envelope // of the events that have passed and are remembered, the lowest; zero if there are none
}

// Now is what the journal is like now; see [Journal.Look].
type Now struct {
	Status
	AtCursor *Envelope // the entry that has the cursor's ID now, nil if there is none
	AtOldest *Envelope // and the one that has the ID of the oldest event remembered
	First    *Entry    // the first entry, nil if the journal is empty
}

// Verdict is what a comparison came to.
type Verdict struct {
	Reason Reason   // why events may be missing, and None if nothing can be
	Also   Reason   // another reason for others, beside Trimmed: Failover or Restarted
	From   Position // where to read on: the entry at it, if there is one, and all behind it
	// Filter says that events that have passed may be behind From, as on a server that had already been the one to read from
	// before another took over. Those that are remembered are to be skipped.
	Filter bool
}

// Compare finds out whether the journal is still the one known, and where the events begin in it that have not passed. It
// relies on offsets, so no clock has a say.
func Compare(known Known, now Now) Verdict {
	if known.Epoch == "" {
		return Verdict{From: now.End()}
	}
	reason, from := compare(known, now)
	also := known.Identity.change(now.Identity)
	switch reason {
	case None:
		reason, also = also, None
	case Trimmed:
	default:
		also = None // what was lost with the server, the journal shows
	}
	return Verdict{Reason: reason, Also: also, From: from, Filter: reason != None}
}

// compare is Compare without what the server's identity adds.
func compare(known Known, now Now) (reason Reason, from Position) {
	cursor, oldest, beginning := known.Cursor.Pos, known.Oldest.Pos, Position{}
	if oldest.IsZero() {
		oldest = cursor // all before it is older than those who want to know
	}
	switch {
	case there(now.AtCursor, &known.Cursor):
		return None, cursor // with another epoch only the state was evicted: two lives have no event in common
	case now.Epoch != known.Epoch && there(now.AtOldest, &known.Oldest):
		return RolledBack, oldest // and the state was evicted
	case now.Epoch != known.Epoch:
		return Wiped, beginning
	case now.Offset < cursor.Offset:
		return RolledBack, oldest
	case now.First == nil && now.Offset == cursor.Offset:
		return None, now.End() // it expired
	case now.First == nil:
		return Trimmed, now.End() // and with it what had followed
	case now.First.Start() < cursor.Offset:
		return RolledBack, oldest // it reaches back to before the cursor, and yet the event there is gone or another one
	case now.First.Start() > cursor.Offset:
		return Trimmed, beginning
	default:
		return None, now.First.Pos // all that followed the cursor is there
	}
}

// there reports whether an entry is the one known.
func there(entry, known *Envelope) bool { return entry != nil && entry.Same(known) }
