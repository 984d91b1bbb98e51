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
	Oldest   Position // of those events that have passed and are remembered; zero if there are none
}

// Now is what the journal is like now; see [Journal.Look].
type Now struct {
	Status
	AtCursor *Envelope // the entry that has the cursor's ID now, nil if there is none
	First    *Entry    // the first entry, nil if the journal is empty
}

// Verdict is what a comparison came to.
type Verdict struct {
	Reason Reason   // why events may be missing, and None if nothing can be
	From   Position // where to read on: the entry at it, if there is one, and all behind it
	// Filter says that events that have passed may be behind From. Those that are remembered are to be skipped.
	Filter bool
}

// Compare finds out whether the journal is still the one known, and where the events begin in it that have not passed. It
// relies on offsets, so no clock has a say.
func Compare(known Known, now Now) Verdict {
	if known.Epoch == "" {
		return Verdict{From: now.End()}
	}
	cursor := known.Cursor.Pos
	atCursor := now.AtCursor != nil && now.AtCursor.Same(&known.Cursor)
	intact := Verdict{Reason: known.Identity.change(now.Identity), From: cursor}
	rolledBack := Verdict{Reason: RolledBack, From: known.Oldest, Filter: true}
	switch {
	case atCursor:
		// With another epoch only the state was evicted: two lives of a journal have no event in common.
		return intact
	case now.Epoch != known.Epoch:
		// Events of the new epoch may have passed before it was noticed.
		return Verdict{Reason: Wiped, Filter: true}
	case now.Offset < cursor.Offset, now.AtCursor != nil:
		return rolledBack
	case now.Length == 0 || now.First == nil:
		intact.From = now.End()
		if now.Offset > cursor.Offset {
			intact.Reason = Trimmed
		}
		return intact // it expired
	case now.Offset == cursor.Offset, now.First.Start() < cursor.Offset:
		return rolledBack // its end is another event, or it reaches back to before the cursor, and yet has lost that
	case now.First.Start() > cursor.Offset:
		return Verdict{Reason: Trimmed}
	default:
		intact.From = now.First.Pos // all that followed the cursor is there
		return intact
	}
}
