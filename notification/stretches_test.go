package notification

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/notification/internal/feed"
	"github.com/compozy/cache/notification/internal/journal"
)

// TestStretchesAgainstAModel: what is in which is known one by one.
func TestStretchesAgainstAModel(t *testing.T) {
	t.Parallel()
	const events = 60
	random := rand.New(rand.NewPCG(1, 0)) //nolint:gosec // a test that can be repeated
	for range 200 {
		var ss stretches
		var in [events + 1]bool
		for range 30 {
			from := random.Uint64N(events)
			to := from + 1 + random.Uint64N(events-from)
			if random.IntN(5) == 0 {
				ss = ss.upTo(posOf(from))
				for i := from + 1; i <= events; i++ {
					in[i] = false
				}
				continue
			}
			to = min(to, from+5)
			ss = ss.add(stretch{posOf(from), posOf(to)})
			for i := from + 1; i <= to; i++ {
				in[i] = true
			}
			for i := range uint64(events + 1) {
				require.Equal(t, in[i], ss.have(posOf(i)), "%d in %v", i, ss)
			}
			for i := 1; i < len(ss); i++ {
				require.True(t, ss[i-1].to.Less(ss[i].from), "%v", ss)
			}
		}
	}
}

func TestStretchesAreBounded(t *testing.T) {
	t.Parallel()
	var ss stretches
	for i := range uint64(maxStretches + 10) {
		ss = ss.add(stretch{posOf(2 * i), posOf(2*i + 1)})
	}
	assert.Len(t, ss, maxStretches)
	assert.False(t, ss.have(posOf(1)))
	assert.True(t, ss.have(posOf(2*maxStretches+1)))
	assert.Empty(t, ss.upTo(journal.Position{}))
}

// TestEventsOfTheOtherJournalAreRemembered: also those in front of what was read of the one before, and in one that went on further
// than that before anybody looked.
func TestEventsOfTheOtherJournalAreRemembered(t *testing.T) {
	t.Parallel()
	c, j, all := readingOf(20, 20)
	behindAt(c, all, 0)
	c.settleAll()
	c.frontier.pause()
	j.entries = j.entries[:10]
	for i := range uint64(15) {
		e := entryAt(11+i, "k")
		e.Stamp += " of the other journal"
		j.entries = append(j.entries, e)
	}
	c.frontier.renew(posOf(10))
	here, _ := c.frontier.at()
	here.session, here.limit = &feed.Session{}, posOf(25)
	c.frontier.reset(here)
	behindAt(c, all, 5)
	c.settleAll()
	f := c.ring.filter(j.entries[24].Envelope)
	for i := range j.entries {
		e := &j.entries[i]
		assert.Contains(t, f.events, remembered{e.Pos, e.Stamp})
	}
	assert.EqualValues(t, 20+15, c.ring.count, "what both have in common only once")
}

// TestAnotherEventOfTheSameOffsetDoesNotFollow: a replica takes the journal of its master, in which another event has the offset of
// one that found the buffer full.
func TestAnotherEventOfTheSameOffsetDoesNotFollow(t *testing.T) {
	t.Parallel()
	full, other := entryAt(3), entryAt(3)
	other.Pos.Ms++
	assert.True(t, (&part{entries: []journal.Entry{full}}).follows(justBefore(full.Pos)))
	assert.False(t, (&part{entries: []journal.Entry{other}}).follows(justBefore(full.Pos)))
}
