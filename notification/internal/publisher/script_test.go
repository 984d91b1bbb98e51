package publisher

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification/internal/journal"
)

// requireChain fails the test unless each entry begins where the one before it ended, and the last is where the state says.
func requireChain(t *testing.T, client redis.UniversalClient, p *Publisher, count int) []journal.Entry {
	t.Helper()
	entries := read(t, client, p)
	require.Equal(t, count, len(entries)) //nolint:testifylint // Len would print them all
	for i := 1; i < len(entries); i++ {
		require.Equal(t, entries[i-1].Pos.Offset, entries[i].Start(), "entry %d of %d", i, count)
	}
	if count > 0 {
		require.Equal(t, state(t, client, p, "offset"), strings.SplitN(entries[count-1].ID, "-", 2)[1])
	}
	return entries
}

func TestOffsetsHaveNoHoles(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	p, other := newPublisher(client), newPublisher(client)
	for i := range 20 {
		require.NoError(t, publish(t, p, "k", 1, i))
		require.NoError(t, publish(t, other, "k", 1+i, 10*i))
	}
	entries := requireChain(t, client, p, 20+210)
	assert.Zero(t, entries[0].Start())
	assert.Equal(t, 61*time.Minute, client.TTL(t.Context(), p.set.Keys.Journal).Val().Round(time.Minute))
	assert.Equal(t, 7*24*time.Hour, client.TTL(t.Context(), p.set.Keys.State).Val().Round(time.Minute))
	for _, l := range p.lanes.free {
		assert.Equal(t, laneLifetime, client.TTL(t.Context(), l.key).Val().Round(time.Minute))
	}
}

// A journal that expired or was evicted goes on where it was, so that events without a hole are told from lost ones.
func TestOffsetOutlivesTheJournal(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	p := newPublisher(client)
	var last journal.Position
	for range 50 { // nearly all in one millisecond
		require.NoError(t, publish(t, p, "k", 2, 0))
		entries := requireChain(t, client, p, 2)
		require.Equal(t, last.Offset, entries[0].Start())
		require.True(t, last.Less(entries[0].Pos), "no ID is given twice")
		last = entries[1].Pos
		require.NoError(t, client.Del(t.Context(), p.set.Keys.Journal).Err())
	}
}

// A state that was evicted is another epoch with the offsets of the one before. A data set that was lost begins from zero.
func TestEpochs(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	p := newPublisher(client)
	epochs := map[string]bool{}
	for i := range 5 {
		require.NoError(t, publish(t, p, "k", 1, 0))
		require.NoError(t, publish(t, p, "k", 2, 0))
		requireChain(t, client, p, 3*(i+1))
		epochs[state(t, client, p, "epoch")] = true
		require.NoError(t, client.Del(t.Context(), p.set.Keys.State).Err())
	}
	require.NoError(t, client.FlushAll(t.Context()).Err())
	require.NoError(t, publish(t, p, "k", 2, 0))
	assert.Zero(t, requireChain(t, client, p, 2)[0].Start())
	epochs[state(t, client, p, "epoch")] = true
	assert.Len(t, epochs, 6)
	assert.Positive(t, client.TTL(t.Context(), p.set.Keys.State).Val())
}

// A server whose clock is behind the last event's ID goes on in that millisecond.
func TestClockBehindTheJournal(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"8000000000000-0", "8000000000000-99999999"} {
		client := redistest.Start(t).Client(t)
		p := newPublisher(client)
		require.NoError(t, publish(t, p, "k", 1, 0))
		ahead := redis.XAddArgs{Stream: p.set.Keys.Journal, ID: id, Values: []any{"k", "v"}}
		require.NoError(t, client.XAdd(t.Context(), &ahead).Err())
		for range 5 {
			require.NoError(t, publish(t, p, "k", 1, 0))
			require.NoError(t, publish(t, p, "k", 3, 0))
		}
		entries := read(t, client, p)
		require.Len(t, entries, 22, "and nothing else")
		assert.Equal(t, entries[0].Pos.Offset, entries[2].Start(), "but for the one that is not ours")
		assert.InDelta(t, 8000000000000, float64(entries[21].Pos.Ms), 1)
		for i := 3; i < len(entries); i++ {
			assert.Equal(t, entries[i-1].Pos.Offset, entries[i].Start())
		}
	}
}

// limited returns a client of a user who may do everything but for the rules given.
func limited(t *testing.T, server *redistest.Server, rules ...any) *redis.Client {
	t.Helper()
	user := append([]any{"acl", "setuser", "limited", "on", ">secret", "~*", "&*", "+@all"}, rules...)
	require.NoError(t, server.Client(t).Do(t.Context(), user...).Err())
	options := server.Options()
	options.Username, options.Password = "limited", "secret"
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// refusedBy fails the test unless err is an answer of the server. How it begins differs from server to server.
func refusedBy(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	var answer redis.Error
	require.ErrorAs(t, err, &answer)
	require.True(t, certain(err))
}

// What the server refuses leaves no hole.
func TestRefusedEventsLeaveNoHole(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	p := newPublisher(limited(t, server, "resetchannels", "&k"))
	allowed := 0
	for i := range 10 {
		refusedBy(t, publish(t, p, "forbidden", 1, 1000))
		require.NoError(t, publish(t, p, "k", 1, 0))
		mixed := append(events(t, p, "k", 1, 0), events(t, p, "forbidden", 2, 5)...)
		mixed = append(mixed, events(t, p, "k", 1, 0)...)
		err := send(t.Context(), p, mixed)
		require.Error(t, err)
		require.Len(t, err.(interface{ Unwrap() []error }).Unwrap(), 2)
		allowed += 3
		requireChain(t, admin, p, 3*(i+1))
	}
	assert.Equal(t, allowed, length(t, admin, p))
}

// A script that fails before it has done anything leaves the lane and the offset as they were, so that a repetition may do
// it: also if it fails for lack of a permission for what comes later.
func TestRefusedRequestDoesNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	client := limited(t, server)
	p := newPublisher(client)
	require.NoError(t, publish(t, p, "k", 1, 0))
	l := p.lanes.take()
	l.number = 7
	for _, command := range []string{"xadd", "hincrby", "set"} {
		require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "limited", "-"+command).Err())
		_, err := p.append(t.Context(), l, events(t, p, "k", 2, 0), false)
		refusedBy(t, err)
		require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "limited", "+"+command).Err())
		require.Equal(t, "1", admin.Get(t.Context(), l.key).Val())
		requireChain(t, admin, p, 1)
	}
	failures, err := p.append(t.Context(), l, events(t, p, "k", 2, 0), false)
	require.NoError(t, err)
	require.Empty(t, failures)
	requireChain(t, admin, p, 3)
	for key, wrong := range map[string]string{p.set.Keys.Journal: "journal", p.set.Keys.State: "state"} {
		require.NoError(t, admin.FlushAll(t.Context()).Err())
		require.NoError(t, admin.Set(t.Context(), key, wrong, 0).Err())
		require.ErrorContains(t, publish(t, p, "k", 1, 0), "WRONGTYPE")
		require.Zero(t, admin.Exists(t.Context(), l.key).Val(), "the lane")
	}
}

// The server answers a repetition as it did before, also with what failed, and does nothing else. An attempt from before the
// lane's last request is refused.
func TestRepetitionGetsTheSameAnswer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	p := newPublisher(limited(t, server, "resetchannels", "&k"))
	for _, channel := range []string{"k", "forbidden"} {
		l := p.lanes.take()
		all := append(events(t, p, "k", 2, 0), events(t, p, channel, 1, 0)...)
		first, err := p.append(t.Context(), l, all, false)
		require.NoError(t, err)
		assert.Equal(t, channel == "forbidden", strings.HasPrefix(first, "2 "), first)
		count := length(t, admin, p)
		for range 3 {
			again, err := p.append(t.Context(), l, all, true)
			require.NoError(t, err)
			assert.Equal(t, first, again)
		}
		l.number--
		_, err = p.append(t.Context(), l, all, false)
		require.ErrorContains(t, err, "LATE")
		require.True(t, certain(err))
		l.number++
		again, err := p.append(t.Context(), l, all, false)
		require.NoError(t, err)
		assert.Equal(t, first, again, "what came late has changed nothing")
		assert.Equal(t, laneLifetime, admin.TTL(t.Context(), l.key).Val().Round(time.Minute))
		assert.Equal(t, count, length(t, admin, p))
		l.number++
		_, err = p.append(t.Context(), l, all, false)
		require.NoError(t, err, "the next request")
		assert.Greater(t, length(t, admin, p), count)
	}
}

// The journal keeps as many bytes as it may and no more, whatever the sizes of its events.
func TestJournalIsCappedInBytes(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for name, c := range map[string]struct{ limit, size, batch, count int }{
		"300 of 1 MB":          {64 * mb, mb - 1000, 1, 300},
		"small ones":           {mb, 200, 100, 15_000},
		"larger than a step":   {mb, mb / 10, 1, 100},
		"half of it":           {mb, mb / 2, 1, 20},
		"larger than all":      {mb / 2, mb - 1000, 1, 5},
		"less than 32 bytes":   {1, 10, 1, 100},
		"batches beyond steps": {mb, mb / 100, 50, 500},
		"batches beyond all":   {mb / 4, 8 << 10, 120, 240},
		"batches of just all":  {mb / 2, 8 << 10, 65, 260},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := redistest.Start(t).Client(t)
			p := newPublisher(client, func(s *Settings) { s.HistoryBytes, s.History = int64(c.limit), 1_000_000 })
			for i := 0; i < c.count; i += c.batch {
				require.NoError(t, publish(t, p, "k", c.batch, c.size))
			}
			entries := read(t, client, p)
			requireChain(t, client, p, len(entries))
			kept := int(entries[len(entries)-1].Pos.Offset - entries[0].Start())
			size := int(entries[0].Size)
			assert.LessOrEqual(t, kept, max(c.limit, size))
			if size < c.limit {
				lost := size // goes with the event that has reached a step,
				if size*c.batch < c.limit/steps {
					lost *= c.batch // or all of its batch, if that is small
				}
				assert.GreaterOrEqual(t, kept, c.limit-2*c.limit/steps-2*lost, "no more is lost than has to")
			}
			state, err := client.HLen(t.Context(), p.set.Keys.State).Result()
			require.NoError(t, err)
			assert.LessOrEqual(t, int(state), steps+3)
		})
	}
}

// After its state was evicted, a journal does not grow for ever.
func TestJournalWithoutStateIsCappedInBytes(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	const limit = 1 << 20
	p := newPublisher(client, func(s *Settings) { s.HistoryBytes = limit })
	for i := range 400 {
		require.NoError(t, publish(t, p, "k", 1, 10_000))
		if i == 95 {
			require.NoError(t, client.Del(t.Context(), p.set.Keys.State).Err())
		}
		entries := read(t, client, p)
		kept := entries[len(entries)-1].Pos.Offset - entries[0].Start()
		require.LessOrEqual(t, int(kept), 2*limit)
		if i > 300 {
			require.LessOrEqual(t, int(kept), limit)
		}
	}
}

// The server's clock goes back while the journal is empty: since when it lasts is not later than its first event.
func TestTheEpochBeginsWithItsFirstEvent(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	p := newPublisher(client)
	require.NoError(t, publish(t, p, "k", 1, 100))
	ahead := client.Time(t.Context()).Val().Add(time.Hour).UnixMilli()
	require.NoError(t, client.Del(t.Context(), p.set.Keys.Journal).Err())
	require.NoError(t, client.HSet(t.Context(), p.set.Keys.State, "since", ahead).Err())
	require.NoError(t, publish(t, p, "k", 1, 100))
	since, err := client.HGet(t.Context(), p.set.Keys.State, "since").Uint64()
	require.NoError(t, err)
	assert.Equal(t, read(t, client, p)[0].Pos.Ms, since)
}
