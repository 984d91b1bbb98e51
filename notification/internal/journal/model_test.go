package journal

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// model is a journal on a server, as the publish scripts, Redis and its accidents change it.
type model struct {
	random  *rand.Rand
	clock   uint64
	epochs  int
	stamps  int
	data    data
	replica data // a copy of some time ago, which may take over
	id      Identity
	runs    int

	appended []Envelope // since the subscriber was there
	changed  bool       // the server's identity has changed since
	wiped    bool       // data was lost since in a way that nobody can tell from eviction
	evicted  bool       // the state was lost since
}

type data struct {
	epoch   string // empty without a state
	offset  uint64
	entries []Entry
}

func (d data) clone() data {
	d.entries = slices.Clone(d.entries)
	return d
}

// begin makes a state where there is none.
func (m *model) begin() {
	if m.data.epoch != "" {
		return
	}
	m.epochs++
	m.data.epoch, m.data.offset = fmt.Sprint("epoch", m.epochs), 0
	if n := len(m.data.entries); n > 0 {
		m.data.offset = m.data.entries[n-1].Pos.Offset
	}
}

func (m *model) append() {
	m.begin()
	size := 100 * (1 + m.random.Uint64N(2)) // so that offsets come twice
	m.data.offset += size
	m.stamps++
	p := Position{Ms: m.clock, Offset: m.data.offset}
	if n := len(m.data.entries); n > 0 {
		p.Ms = max(p.Ms, m.data.entries[n-1].Pos.Ms)
	}
	e := Envelope{ID: p.String(), Pos: p, Stamp: fmt.Sprint(m.stamps)}
	m.data.entries = append(m.data.entries, Entry{Envelope: e, Size: size})
	m.appended = append(m.appended, e)
}

// step lets something happen. What is rare in practice is rare enough here that most rounds are without it.
func (m *model) step() {
	switch n := m.random.IntN(40); {
	case n < 20:
		m.append()
	case n < 24:
		m.clock += m.random.Uint64N(3)
	case n < 26:
		m.clock -= min(m.clock, m.random.Uint64N(20))
	case n < 29:
		m.data.entries = slices.Clone(m.data.entries[m.random.IntN(len(m.data.entries)+1):])
	case n < 31:
		m.data.entries = nil // expired
	case n < 33:
		m.data.epoch = ""
		m.evicted = true
	case n < 34:
		m.data = data{}
		m.wiped = true
	case n < 37:
		m.replica = m.data.clone()
	case n < 39:
		m.data, m.replica = m.replica.clone(), m.data.clone()
		m.newIdentity(m.id.Repl)
	default:
		m.newIdentity(noHistory)
	}
}

func (m *model) newIdentity(before string) {
	m.runs++
	m.id = Identity{Run: fmt.Sprint("run", m.runs), Repl: fmt.Sprint("history", m.runs), Before: before, Role: "master"}
	m.changed = true
}

func (m *model) look(known Known) Now {
	m.begin()
	now := Now{Status: Status{Epoch: m.data.epoch, Offset: m.data.offset, Length: len(m.data.entries), Identity: m.id}}
	for i := range m.data.entries {
		e := m.data.entries[i]
		if i == 0 {
			now.First = &e
		}
		if e.Pos == known.Cursor.Pos {
			now.AtCursor = &e.Envelope
		}
		if e.Pos == known.Oldest.Pos {
			now.AtOldest = &e.Envelope
		}
		now.Last = e.Envelope
	}
	return now
}

// reader is one who reads on after each cut as a comparison says.
type reader struct {
	known  Known
	older  map[string]bool // stamps of what is older than the reader
	passed map[string]bool // and of what was delivered
	ring   []Envelope      // what is remembered of that
}

// read returns what the reader gets.
func (r *reader) read(m *model, v Verdict) (got []Envelope) {
	for i := range m.data.entries {
		e := m.data.entries[i].Envelope
		remembered := slices.ContainsFunc(r.ring, func(o Envelope) bool { return o.Pos == e.Pos && o.Stamp == e.Stamp })
		switch {
		case e.Pos.Less(v.From):
		case v.Filter && remembered:
		case !v.Filter && e.Pos == r.known.Cursor.Pos && e.Stamp == r.known.Cursor.Stamp:
		default:
			got = append(got, e)
		}
	}
	return got
}

// Nothing is lost silently, nothing comes twice, and there is no gap where nothing is missing.
func TestCompareAgainstAModel(t *testing.T) {
	t.Parallel()
	reasons := map[Reason]int{}
	for seed := range uint64(2000) {
		m := &model{random: rand.New(rand.NewPCG(seed, 0)), clock: 1000} //nolint:gosec // a test that can be repeated
		m.newIdentity(noHistory)
		for range m.random.IntN(5) {
			m.append()
		}
		r := &reader{older: map[string]bool{}, passed: map[string]bool{}}
		for i := range m.data.entries {
			r.older[m.data.entries[i].Stamp] = true
		}
		for round := range 6 {
			now := m.look(r.known)
			v := Compare(r.known, now)
			reasons[v.Reason]++
			if r.known.Epoch != "" {
				r.check(t, m, now, v, fmt.Sprintf("seed %d, round %d: %+v after %+v gave %+v", seed, round, m.data, r.known, v))
			}
			r.know(now)
			m.appended, m.changed, m.wiped, m.evicted = nil, false, false, false
			for range m.random.IntN(8) {
				m.step()
			}
		}
	}
	for _, reason := range []Reason{None, Wiped, Trimmed, RolledBack, Failover, Restarted} {
		require.Greater(t, reasons[reason], 20, "%q has to come up", reason)
	}
}

func (r *reader) check(t *testing.T, m *model, now Now, v Verdict, what string) {
	t.Helper()
	got := r.read(m, v)
	for i := range got {
		require.False(t, r.passed[got[i].Stamp], "comes twice: %s", what)
		// What is older is not remembered. It may come if a server takes over that has nothing of what is.
		told := v.Reason == Wiped || v.Reason == RolledBack && !there(now.AtOldest, &r.known.Oldest)
		require.False(t, r.older[got[i].Stamp] && !told, "is too old: %s", what)
		r.passed[got[i].Stamp] = true
	}
	r.ring = append(r.ring, got...)
	if v.Reason == None {
		require.Len(t, got, len(m.appended), "lost silently: %s", what)
		for i := range got {
			require.Equal(t, m.appended[i], got[i], what)
		}
		return
	}
	lost := false
	for i := range m.appended {
		remains := slices.ContainsFunc(m.data.entries, func(e Entry) bool { return e.Stamp == m.appended[i].Stamp })
		lost = lost || !remains
		if remains && v.Reason != RolledBack {
			require.True(t, r.passed[m.appended[i].Stamp], "not read: %s", what)
		}
	}
	// Without the event at the cursor nobody can tell a lost state from lost data.
	unknowable := m.wiped || m.evicted && !there(now.AtCursor, &r.known.Cursor)
	require.True(t, lost || m.changed || unknowable, "nothing is missing: %s", what)
}

// know remembers the journal of now.
func (r *reader) know(now Now) {
	r.known.Epoch, r.known.Cursor, r.known.Identity = now.Epoch, now.Cursor(), now.Identity
	if now.Length > 0 {
		r.ring = append(r.ring, now.Last) // as the heartbeat that names it does
	}
	if len(r.ring) > 0 {
		r.known.Oldest = slices.MinFunc(r.ring, func(a, b Envelope) int { return a.Pos.Compare(b.Pos) })
	}
}
