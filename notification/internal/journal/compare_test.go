package journal

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

const noHistory = "0000000000000000000000000000000000000000"

func event(ms, offset uint64, stamp string) Envelope {
	p := Position{ms, offset}
	return Envelope{ID: p.String(), Pos: p, Stamp: stamp}
}

// nowAt is a journal of one epoch. Each of its entries has a size of 100.
func nowAt(epoch string, offset uint64, cursor Position, entries ...Envelope) Now {
	now := Now{Status: Status{Epoch: epoch, Offset: offset, Length: len(entries), Identity: Identity{Run: "r", Repl: "a", Role: "master"}}}
	for i := range entries {
		if entries[i].Pos == cursor {
			now.AtCursor = &entries[i]
		}
		if entries[i].Pos == (Position{5, 500}) {
			now.AtOldest = &entries[i]
		}
	}
	if len(entries) > 0 {
		now.First = &Entry{Envelope: entries[0], Size: 100}
		now.Last = entries[len(entries)-1]
	}
	return now
}

func TestCompare(t *testing.T) {
	t.Parallel()
	cursor := event(20, 1000, "c")
	before, after, later := event(10, 900, "b"), event(30, 1100, "d"), event(40, 1200, "e")
	at := cursor.Pos
	oldest := event(5, 500, "a")
	beginning := Verdict{Reason: Trimmed, Filter: true}
	rolledBack := Verdict{Reason: RolledBack, From: oldest.Pos, Filter: true}
	wiped := Verdict{Reason: Wiped, Filter: true}
	intact := Verdict{From: at}
	for name, tc := range map[string]struct {
		now  Now
		want Verdict
	}{
		"nothing changed":                   {nowAt("e", 1000, at, before, cursor), intact},
		"events followed":                   {nowAt("e", 1200, at, cursor, after, later), intact},
		"expired":                           {nowAt("e", 1000, at), Verdict{From: Position{0, 1000}}},
		"expired, then events":              {nowAt("e", 1200, at, after, later), Verdict{From: after.Pos}},
		"then events, by a clock set back":  {nowAt("e", 1100, at, event(1, 1100, "d")), Verdict{From: Position{1, 1100}}},
		"trimmed up to the cursor":          {nowAt("e", 1100, at, after), Verdict{From: after.Pos}},
		"trimmed":                           {nowAt("e", 1200, at, later), beginning},
		"events, then expired":              {nowAt("e", 1100, at), Verdict{Reason: Trimmed, From: Position{0, 1100}, Filter: true}},
		"lost its end":                      {nowAt("e", 900, at, before), rolledBack},
		"lost its end, and expired":         {nowAt("e", 900, at), rolledBack},
		"lost its end, and has another":     {nowAt("e", 1000, at, before, event(20, 1000, "x")), rolledBack},
		"another, of another time":          {nowAt("e", 1000, at, before, event(21, 1000, "x")), rolledBack},
		"another, alone":                    {nowAt("e", 1000, at, event(21, 1000, "x")), rolledBack},
		"lost its end, and went on":         {nowAt("e", 1150, at, before, event(25, 1150, "x")), rolledBack},
		"with another event at the cursor":  {nowAt("e", 1200, at, event(20, 1000, "x"), after, later), rolledBack},
		"lost its end, went on, is trimmed": {nowAt("e", 1200, at, event(35, 1150, "x"), later), beginning},
		"the cursor's event was deleted":    {nowAt("e", 1100, at, before, after), rolledBack},
		"state evicted":                     {nowAt("f", 1000, at, before, cursor), intact},
		"state evicted, events followed":    {nowAt("f", 1200, at, cursor, after, later), intact},
		"state evicted, and trimmed":        {nowAt("f", 1200, at, after, later), wiped},
		"state evicted, and expired":        {nowAt("f", 0, at), wiped},
		"wiped":                             {nowAt("f", 0, at), wiped},
		"wiped, then events":                {nowAt("f", 100, at, event(30, 100, "x")), wiped},
		"wiped, then as many events":        {nowAt("f", 1000, at, event(30, 1000, "x")), wiped},
		"state evicted, lost its end":       {nowAt("f", 600, at, oldest, event(6, 600, "a")), rolledBack},
		"state evicted, as new as that":     {nowAt("f", 500, at, event(5, 500, "x")), wiped},
		"wiped, then the same position":     {nowAt("f", 1000, at, event(20, 1000, "x")), wiped},
	} {
		known := Known{Epoch: "e", Cursor: cursor, Identity: tc.now.Identity, Oldest: oldest}
		assert.Equal(t, tc.want, Compare(known, tc.now), name)

		// Another server may lack events even if the journal is intact. What is certain has the better reason, but what was trimmed
		// is not what was lost with the server.
		because := func(reason Reason) Verdict {
			want := tc.want
			switch want.Reason {
			case None:
				want.Reason, want.Filter = reason, true
			case Trimmed:
				want.Also = reason
			}
			return want
		}
		known.Identity = Identity{Run: "q", Repl: "z", Role: "master"}
		tc.now.Identity.Before = "z"
		assert.Equal(t, because(Failover), Compare(known, tc.now), name)
		tc.now.Identity.Before = noHistory
		assert.Equal(t, because(Restarted), Compare(known, tc.now), name)
	}
}

func TestCompareWithAnEmptyJournal(t *testing.T) {
	t.Parallel()
	first := event(30, 1100, "d")
	at := Position{Offset: 1000} // it had expired
	known := Known{Epoch: "e", Cursor: Envelope{Pos: at}}
	for name, tc := range map[string]struct {
		now  Now
		want Verdict
	}{
		"still empty":         {nowAt("e", 1000, at), Verdict{From: at}},
		"events":              {nowAt("e", 1100, at, first), Verdict{From: first.Pos}},
		"events, then empty":  {nowAt("e", 1100, at), Verdict{Reason: Trimmed, From: Position{0, 1100}, Filter: true}},
		"events, trimmed":     {nowAt("e", 1200, at, event(40, 1200, "e")), Verdict{Reason: Trimmed, Filter: true}},
		"lost its end":        {nowAt("e", 900, at, event(10, 900, "b")), Verdict{Reason: RolledBack, From: at, Filter: true}},
		"and has another":     {nowAt("e", 1000, at, event(10, 1000, "b")), Verdict{Reason: RolledBack, From: at, Filter: true}},
		"and older ones":      {nowAt("e", 1100, at, event(10, 1000, "b"), first), Verdict{Reason: RolledBack, From: at, Filter: true}},
		"other epoch":         {nowAt("f", 0, at), Verdict{Reason: Wiped, Filter: true}},
		"other epoch, events": {nowAt("f", 100, at, event(30, 100, "x")), Verdict{Reason: Wiped, Filter: true}},
	} {
		known.Identity = tc.now.Identity
		assert.Equal(t, tc.want, Compare(known, tc.now), name)
	}
	fresh := Known{Epoch: "e", Identity: nowAt("e", 0, Position{}).Identity}
	assert.Equal(t, Verdict{From: Position{5, 100}}, Compare(fresh, nowAt("e", 100, Position{}, event(5, 100, "a"))), "its first event")
	assert.Equal(t, Verdict{}, Compare(fresh, nowAt("e", 0, Position{})))
	assert.Equal(t, Trimmed, Compare(fresh, nowAt("e", 200, Position{}, event(5, 200, "b"))).Reason)
}

func TestCompareWithNothingKnown(t *testing.T) {
	t.Parallel()
	last := event(20, 1000, "c")
	assert.Equal(t, Verdict{From: last.Pos}, Compare(Known{}, nowAt("e", 1000, Position{}, event(10, 900, "b"), last)))
	assert.Equal(t, Verdict{From: Position{0, 1000}}, Compare(Known{}, nowAt("e", 1000, Position{})))
}

// An event ID that a user has kept has neither a stamp nor an epoch.
func TestCompareWithAnEventIDAlone(t *testing.T) {
	t.Parallel()
	last := event(20, 1000, "c")
	now := nowAt("e", 1000, last.Pos, event(10, 900, "b"), last)
	known := Known{Epoch: now.Epoch, Cursor: Envelope{Pos: last.Pos}, Identity: now.Identity}
	assert.Equal(t, Verdict{From: last.Pos}, Compare(known, now))
	assert.Equal(t, Verdict{From: Position{0, 1000}}, Compare(known, nowAt("e", 1000, last.Pos)), "it expired at the very position")
	assert.Equal(t, RolledBack, Compare(known, nowAt("e", 900, last.Pos, event(10, 900, "b"))).Reason)
}

func TestChangesOfIdentity(t *testing.T) {
	t.Parallel()
	master := Identity{Run: "r", Repl: "a", Before: noHistory, Role: "master"}
	for name, tc := range map[string]struct {
		was, is Identity
		want    Reason
	}{
		"none":                            {master, master, None},
		"nothing is known":                {Identity{}, Identity{}, None},
		"a replica of the master is read": {master, Identity{Run: "q", Repl: "a", Before: noHistory, Role: "slave"}, None},
		"the same replica":                {Identity{Run: "q", Repl: "a", Role: "slave"}, Identity{Run: "q", Repl: "a", Role: "slave", LinkDown: true}, None},
		"and the master again":            {Identity{Run: "q", Repl: "a", Role: "slave"}, master, None},
		"the first replica came":          {master, Identity{Run: "r", Repl: "b", Before: noHistory, Role: "master"}, None},
		"it was a replica in between":     {master, Identity{Run: "r", Repl: "b", Before: "x", Role: "master"}, Failover},
		"a replica took over":             {master, Identity{Run: "q", Repl: "b", Before: "a", Role: "master"}, Failover},
		"the master becomes a replica":    {master, Identity{Run: "r", Repl: "a", Before: noHistory, Role: "slave", LinkDown: true}, Failover},
		"and has another one's data":      {master, Identity{Run: "r", Repl: "b", Before: noHistory, Role: "slave"}, Failover},
		"a replica of another master":     {master, Identity{Run: "q", Repl: "b", Before: noHistory, Role: "slave"}, Failover},
		"another process":                 {master, Identity{Run: "q", Repl: "b", Before: noHistory, Role: "master"}, Restarted},
		"the slot was moved": {
			Identity{Run: "r", Repl: "a", Role: "master", Node: "n"}, Identity{Run: "q", Repl: "b", Before: noHistory, Role: "master", Node: "m"},
			None,
		},
		"to a node that has taken over": {
			Identity{Run: "r", Repl: "a", Role: "master", Node: "n"}, Identity{Run: "q", Repl: "b", Before: "c", Role: "master", Node: "m"},
			Failover,
		},
		"a node was restarted": {
			Identity{Run: "r", Repl: "a", Role: "master", Node: "n"}, Identity{Run: "q", Repl: "b", Before: noHistory, Role: "master", Node: "n"},
			Restarted,
		},
		"one that does not tell": {master, Identity{}, Restarted},
	} {
		assert.Equal(t, tc.want, tc.was.change(tc.is), name)
	}
}
