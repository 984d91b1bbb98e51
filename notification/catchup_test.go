package notification

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/compozy/cache/notification/internal/feed"
	"github.com/compozy/cache/notification/internal/journal"
)

const entrySize = 100

// entryAt returns the event with a number.
func entryAt(number uint64, channels ...string) journal.Entry {
	pos := journal.Position{Ms: number, Offset: number * entrySize}
	stamp := time.Unix(int64(number), 0).UTC() //nolint:gosec // small
	return journal.Entry{
		Envelope: journal.Envelope{ID: pos.String(), Pos: pos, Time: stamp, Stamp: stamp.Format(time.RFC3339Nano)},
		Value:    fmt.Sprintf(`"n":%d}`, number), Channels: channels, Size: entrySize,
	}
}

func posOf(number uint64) journal.Position { e := entryAt(number); return e.Pos }

// shelf is a journal in memory.
type shelf struct {
	entries []journal.Entry
	part    int
	reads   []journal.Position
}

func (s *shelf) After(_ context.Context, _ journal.Server, at journal.Position) (journal.Part, error) {
	s.reads = append(s.reads, at)
	part := journal.Part{Epoch: "e"}
	for _, e := range s.entries {
		part.Offset = max(part.Offset, e.Pos.Offset)
		if at.Less(e.Pos) {
			if part.More = len(part.Entries) == s.part; !part.More {
				part.Entries = append(part.Entries, e)
			}
		}
	}
	return part, nil
}

// reading returns a catch-up on a journal with so many events for the channel "k", of which some have passed.
func readingOf(events, passed uint64) (*catchup, *shelf, *common) {
	j := &shelf{part: 10}
	for i := range events {
		j.entries = append(j.entries, entryAt(i+1, "k"))
	}
	f := &frontier{}
	f.reset(place{session: &feed.Session{}, epoch: "e", limit: posOf(passed)})
	c := newCatchup(f, j, &ring{})
	c.metrics, c.log, c.recovered = newMetrics("x"), zap.NewNop(), func() {}
	ts := newTopics()
	ts.asker = feed.New(feed.Settings{Logger: zap.NewNop()}, nil)
	return c, j, &common{
		policy: PolicyReplay, buffer: 1000, log: zap.NewNop(), metrics: c.metrics, topics: ts, refusals: &refusals{}, frontier: f,
	}
}

// behindAt returns a subscription that has come as far as an event.
func behindAt(c *catchup, all *common, number uint64) *Subscription {
	s := newSubscription(all, "k")
	all.topics.attach(s)
	here, _ := c.frontier.at()
	s.state, s.at, s.until = behind, posOf(number), here.limit
	c.add(false, s)
	return s
}

func (c *catchup) settleAll() {
	for {
		if _, progress := c.round(context.Background()); !progress {
			return
		}
	}
}

// TestCatchUpGoesNoFurtherThanTheConnection: what the connection has not brought yet would be in nobody's memory, should the
// server fail now.
func TestCatchUpGoesNoFurtherThanTheConnection(t *testing.T) {
	t.Parallel()
	c, j, all := readingOf(30, 15)
	s := behindAt(c, all, 0)
	c.settleAll()
	assert.Len(t, s.messages, 15)
	assert.Equal(t, live, s.state)
	assert.Len(t, j.reads, 2)
	for i := range 15 {
		assert.Equal(t, posOf(uint64(i+1)).String(), (<-s.messages).EventID) //nolint:gosec // small
	}
}

// TestEachPartIsReadOnce: whoever needs what was read before finds it in memory, and its messages are the same ones.
func TestEachPartIsReadOnce(t *testing.T) {
	t.Parallel()
	c, j, all := readingOf(100, 100)
	var subs []*Subscription
	for i := range uint64(50) {
		subs = append(subs, behindAt(c, all, i))
	}
	c.settleAll()
	late := behindAt(c, all, 0)
	c.settleAll()
	assert.LessOrEqual(t, len(j.reads), 12)
	for i, s := range subs {
		require.Len(t, s.messages, 100-i)
		require.Equal(t, live, s.state)
	}
	assert.Same(t, <-subs[0].messages, <-late.messages)
}

// TestSlowReadersShareMessages: also where a part was read again in between.
func TestSlowReadersShareMessages(t *testing.T) {
	t.Parallel()
	c, j, all := readingOf(100, 100)
	all.buffer = 20
	var subs []*Subscription
	for i := range uint64(20) {
		subs = append(subs, behindAt(c, all, 3*i))
		c.settleAll()
		c.parts = nil
	}
	assert.Greater(t, len(j.reads), 20)
	seen := make(map[string]*Message)
	for _, s := range subs {
		for len(s.messages) > 0 {
			m := <-s.messages
			if earlier := seen[m.EventID]; earlier != nil {
				assert.Same(t, earlier, m)
			}
			seen[m.EventID] = m
		}
	}
	assert.Len(t, seen, 20+19*3)
	assert.GreaterOrEqual(t, len(c.messages.made), len(seen))
	clear(seen)
	require.Eventually(t, func() bool {
		runtime.GC()
		c.messages.clean()
		return len(c.messages.made) == 0
	}, 10*time.Second, time.Millisecond, "what nobody has any more is not remembered")
}

// TestFullBufferHoldsUpNobody: it leaves its subscription where it is.
func TestFullBufferHoldsUpNobody(t *testing.T) {
	t.Parallel()
	c, j, all := readingOf(100, 100)
	all.buffer = 8
	slow := behindAt(c, all, 0)
	all.buffer = 1000
	quick := behindAt(c, all, 0)
	c.settleAll()
	assert.Len(t, quick.messages, 100)
	assert.Len(t, slow.messages, 8)
	assert.Equal(t, posOf(8), slow.at)
	reads := len(j.reads)
	c.settleAll()
	assert.Len(t, j.reads, reads, "nothing is read for one without room")
	<-slow.messages
	c.look = time.Time{}
	c.settleAll()
	assert.Len(t, slow.messages, 7, "little room is not worth a look")
	<-slow.messages
	c.look = time.Time{}
	c.settleAll()
	assert.Len(t, slow.messages, 8)
	assert.Len(t, j.reads, reads, "it was still in memory")
}

// TestFilterTellsWhereTheHoleIs: of a journal that was rolled back, a subscription that is behind gets first what both have in
// common, and only then the gap.
func TestFilterTellsWhereTheHoleIs(t *testing.T) {
	t.Parallel()
	c, j, all := readingOf(10, 10)
	for i := range j.entries {
		c.ring.add(&j.entries[i].Envelope)
	}
	s := behindAt(c, all, 4)
	last := entryAt(10)
	f := c.ring.filter(last.Envelope)
	f.common = posOf(10)
	j.entries = append(j.entries[:7], entryAt(11, "k"), entryAt(12, "k")) // three were lost
	here, _ := c.frontier.at()
	here.limit = posOf(12)
	c.frontier.reset(here)
	require.True(t, s.missed(GapRolledBack, spot{filter: f, open: openBehind}))
	require.True(t, s.readOn(reading{from: posOf(1), until: here.limit, filter: f, forked: true}))
	c.settleAll()
	for _, number := range []uint64{5, 6, 7, 11, 12} {
		m := <-s.messages
		assert.Equal(t, posOf(number).String(), m.EventID)
		assert.Equal(t, number == 11, m.Gap != nil, "%d", number)
	}
	assert.Empty(t, s.messages)
	assert.Equal(t, live, s.state)
}

// TestRingForgetsTheOldest: and knows up to where.
func TestRingForgetsTheOldest(t *testing.T) {
	t.Parallel()
	var r ring
	oldest := r.oldest()
	assert.True(t, oldest.Pos.IsZero())
	for i := range uint64(ringSize + 10) {
		e := entryAt(i + 1)
		r.add(&e.Envelope)
	}
	assert.Equal(t, posOf(10), r.oldest().Pos)
	last := entryAt(ringSize + 10)
	f := r.filter(last.Envelope)
	for number, known := range map[uint64]bool{1: true, 10: true, 11: true, ringSize + 10: true, ringSize + 11: false} {
		e := entryAt(number)
		assert.Equal(t, known, f.known(&e.Envelope), "%d", number)
	}
	other := entryAt(500)
	other.Stamp = "another history"
	assert.False(t, f.known(&other.Envelope))
	later := entryAt(5)
	later.Time = last.Time.Add(time.Second)
	assert.False(t, f.known(&later.Envelope), "on a server whose clock is behind")
}

// passing makes an event pass on the connection that is not in the journal yet for those who read it.
func passing(all *common, name string, number uint64, size int) {
	e := entryAt(number, name)
	t := all.topics.lookup(feed.Name{Text: name})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.passed = e.Pos
	t.recent.add(newMessage(t.Name, name, strings.Repeat("x", size), &e.Envelope), e.Pos)
}

// TestLittleIsKeptForThoseThatAreBehind: what passes is kept for those who have room for it, and within one bound for all names.
func TestLittleIsKeptForThoseThatAreBehind(t *testing.T) {
	t.Parallel()
	c, _, all := readingOf(10, 5)
	all.buffer = 4
	full := behindAt(c, all, 0)
	c.settleAll()
	require.Len(t, full.messages, 4)
	passing(all, "k", 6, 1000)
	assert.Zero(t, all.topics.kept.Load(), "it has no room")
	assert.Empty(t, full.topic.recent.messages)

	const names, size, events = 40, 300 << 10, 5
	var subs []*Subscription
	for i := range names {
		s := newSubscription(all, fmt.Sprint("n", i))
		all.topics.attach(s)
		s.state, s.at, s.until = behind, posOf(1), posOf(100) // more than the connection has brought
		c.add(false, s)
		subs = append(subs, s)
	}
	c.settleAll()
	for number := range uint64(events) {
		for _, s := range subs {
			passing(all, s.pattern, 7+number, size)
		}
	}
	assert.Greater(t, all.topics.kept.Load(), int64(maxKeptBytes-size))
	sum := 0
	for _, s := range subs {
		r := &s.topic.recent
		sum += len(r.messages) * size
		assert.Equal(t, posOf(uint64(6+events-len(r.messages))), later(r.from, posOf(6)), "all behind it is there")
	}
	assert.EqualValues(t, all.topics.kept.Load(), sum)
	assert.LessOrEqual(t, sum, maxKeptBytes)
	for _, s := range append(subs, full) {
		require.NoError(t, s.Close())
	}
	assert.Zero(t, all.topics.kept.Load())
}

// TestGapWaitsForTheRecovery: a subscription that has just been given a gap, while the recovery goes on, does not catch up with
// the journal of before: the gap belongs behind that.
func TestGapWaitsForTheRecovery(t *testing.T) {
	t.Parallel()
	c, _, all := readingOf(5, 5)
	s := behindAt(c, all, 5)
	s.changes = []change{{filter: &filter{}}} // an earlier one, which it would be done with now
	c.frontier.pause()
	require.True(t, s.missed(GapWiped, spot{filter: &filter{}}))
	c.settleAll()
	assert.Equal(t, behind, s.state)
	assert.Len(t, s.gaps.held, 1)
	assert.Nil(t, s.gaps.next)
	here, _ := c.frontier.at()
	here.session = &feed.Session{}
	c.frontier.reset(here)
	c.settleAll()
	assert.Equal(t, live, s.state)
	assert.NotNil(t, s.gaps.next)
}
