package group

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification/internal/journal"
)

// What happens to the journal and the group while no member is there, and what the group makes of it: which of the 10 events
// before it, the 10 after the last member has left, and the 10 after it are handled, and which gaps are reported.
func TestWhatTheJournalLoses(t *testing.T) {
	t.Parallel()
	type test struct {
		harm   func(ctx context.Context, b *bundle) error
		read   bool // the group has read the 10 events in the middle
		middle int  // how many of these it handles
		gaps   []journal.Reason
		lost   uint64
	}
	del := func(keys ...func(b *bundle) string) func(ctx context.Context, b *bundle) error {
		return func(ctx context.Context, b *bundle) error {
			for _, key := range keys {
				if err := b.client.Del(ctx, key(b)).Err(); err != nil {
					return err
				}
			}
			return nil
		}
	}
	stream := func(b *bundle) string { return b.keys.Journal }
	state := func(b *bundle) string { return b.keys.State }
	events := func(b *bundle) string { return b.k.events }
	due := func(b *bundle) string { return b.k.due }
	whereabouts := func(b *bundle) string { return b.k.progress }
	flush := func(ctx context.Context, b *bundle) error { return b.client.FlushAll(ctx).Err() }
	for name, test := range map[string]test{
		"nothing":                                     {middle: 10},
		"nothing, and they were read":                 {read: true, middle: 10},
		"the stream was deleted":                      {harm: del(stream), gaps: []journal.Reason{journal.Trimmed}},
		"the stream was deleted after they were read": {harm: del(stream), read: true, middle: 10},
		"all of the journal was deleted":              {harm: del(stream, state), gaps: []journal.Reason{journal.Wiped}},
		"the state was evicted":                       {harm: del(state), middle: 10},
		"all was flushed":                             {harm: flush, gaps: nil}, // the group as well
		"the events were evicted":                     {harm: del(events), read: true, gaps: []journal.Reason{journal.Wiped}, lost: 10},
		"the times were evicted":                      {harm: del(due), read: true, middle: 10},
		"the progress was evicted":                    {harm: del(whereabouts), read: true, middle: 10, gaps: []journal.Reason{journal.Wiped}},
		"the events and times were evicted":           {harm: del(events, due), read: true, gaps: []journal.Reason{journal.Wiped}, lost: 10},
		"the stream was trimmed": {harm: func(ctx context.Context, b *bundle) error {
			return b.client.XTrimMaxLen(ctx, b.keys.Journal, 4).Err()
		}, middle: 4, gaps: []journal.Reason{journal.Trimmed}},
		"the stream was trimmed to where it was": {harm: func(ctx context.Context, b *bundle) error {
			return b.client.XTrimMaxLen(ctx, b.keys.Journal, 10).Err()
		}, middle: 10},
		"the stream expired": {harm: func(ctx context.Context, b *bundle) error {
			err := b.client.PExpire(ctx, b.keys.Journal, time.Millisecond).Err()
			for err == nil && b.client.Exists(ctx, b.keys.Journal).Val() == 1 {
				err = redisx.Sleep(ctx, time.Millisecond)
			}
			return err
		}, read: true, middle: 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			stop := b.run(t)
			b.append(t, "k", 10)
			b.done(t, 10)
			stop()
			if test.read {
				stop = b.run(t, func(s *Settings) { s.Concurrency = 0 })
				b.append(t, "k", 10)
				b.eventually(t, "not read", func() bool { return b.client.ZCard(t.Context(), b.k.due).Val() == 10 })
				stop()
			} else {
				b.append(t, "k", 10)
			}
			if test.harm != nil {
				require.NoError(t, test.harm(t.Context(), b))
			}
			b.run(t)
			b.append(t, "k", 10)
			b.done(t, 20+test.middle)
			for body, count := range b.handled {
				assert.Equal(t, 1, count, body)
			}
			if test.gaps == nil {
				test.gaps = []journal.Reason{}
			}
			assert.Equal(t, test.gaps, b.reasons())
			if len(b.gaps) == 1 {
				assert.Equal(t, test.lost, b.gaps[0].missed)
			}
			b.append(t, "k", 5)
			b.done(t, 25+test.middle)
			assert.Len(t, b.reasons(), len(test.gaps), "reported once")
		})
	}
}

// The same while members are there, who remember.
func TestWhatTheServerLosesUnderMembers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		harm func(ctx context.Context, b *bundle) error
		gaps []journal.Reason
	}{
		"all":          {harm: func(ctx context.Context, b *bundle) error { return b.client.FlushAll(ctx).Err() }, gaps: []journal.Reason{journal.Wiped}},
		"the progress": {harm: func(ctx context.Context, b *bundle) error { return b.client.Del(ctx, b.k.progress).Err() }, gaps: []journal.Reason{journal.Wiped}},
		"the stream":   {harm: func(ctx context.Context, b *bundle) error { return b.client.Del(ctx, b.keys.Journal).Err() }},
		"the state":    {harm: func(ctx context.Context, b *bundle) error { return b.client.Del(ctx, b.keys.State).Err() }},
		"what wakes":   {harm: func(ctx context.Context, b *bundle) error { return b.client.Del(ctx, b.k.wake).Err() }},
		"the scripts":  {harm: func(ctx context.Context, b *bundle) error { return b.client.ScriptFlush(ctx).Err() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			for range 3 {
				b.run(t)
			}
			b.append(t, "k", 10)
			b.done(t, 10)
			require.NoError(t, test.harm(t.Context(), b))
			b.append(t, "k", 10)
			b.done(t, 20)
			b.append(t, "k", 10)
			b.done(t, 30)
			if test.gaps == nil {
				test.gaps = []journal.Reason{}
			}
			assert.Equal(t, test.gaps, b.reasons())
		})
	}
}

// Keys of the group are lost with what it holds, and the journal is not: that is a gap, reported once.
func TestHeldEventsAreLostUnderMembers(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]func(k keys) []string{
		"all keys":                func(k keys) []string { return []string{k.progress, k.events, k.due, k.wake, k.dead} },
		"the progress and events": func(k keys) []string { return []string{k.progress, k.events} },
		"the progress":            func(k keys) []string { return []string{k.progress} },
	} {
		for _, members := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, %d members", name, members), func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				release := make(chan struct{})
				b.set(func(context.Context, Event) Result {
					<-release
					return Result{}
				})
				for range members {
					b.run(t)
				}
				b.append(t, "k", 10)
				b.eventually(t, "not read", func() bool { return b.client.ZCard(t.Context(), b.k.due).Val() == 10 })
				require.NoError(t, b.client.Del(t.Context(), keys(b.k)...).Err())
				close(release)
				b.eventually(t, "no gap", func() bool { return len(b.gaps) > 0 })
				last := b.append(t, "k", 1)
				b.eventually(t, "the group does not go on", func() bool {
					return slices.ContainsFunc(b.order, func(e Event) bool { return e.ID == last })
				})
				b.empty(t)
				b.eventually(t, "the gap is still in the progress", func() bool {
					at, err := parseProgress(b.client.HGet(t.Context(), b.k.progress, "known").Val())
					return err == nil && !at.wiped
				})
				assert.Equal(t, []journal.Reason{journal.Wiped}, b.reasons())
			})
		}
	}
}

// The journal expires after all of it was read, and the server's clock is set back: its next entry has a lower time.
func TestTheClockGoesBackAfterTheJournalExpired(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		away, seen bool // no member is there meanwhile; the leader sees the journal empty
	}{
		"before the leader looks":    {},
		"and the leader sees it":     {seen: true},
		"while there are no members": {away: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			stop := b.run(t)
			b.ahead = time.Hour
			b.append(t, "k", 2)
			b.done(t, 2)
			if test.away {
				stop()
			}
			require.NoError(t, b.client.Del(t.Context(), b.keys.Journal).Err())
			if test.seen {
				b.eventually(t, "the empty journal was not seen", func() bool {
					at, err := parseProgress(b.client.HGet(t.Context(), b.k.progress, "known").Val())
					return err == nil && at.cursor.Pos.Ms == 0
				})
			}
			b.ahead = 0
			b.append(t, "k", 2)
			if test.away {
				b.run(t)
			}
			b.done(t, 4)
			b.append(t, "k", 1)
			b.done(t, 5)
			assert.Empty(t, b.reasons())
		})
	}
}

// All is lost while an event is being handled, that fails then.
func TestFlushedWhileWorking(t *testing.T) {
	t.Parallel()
	b := setup(t)
	begun, fail := make(chan struct{}), make(chan struct{})
	b.set(func(context.Context, Event) Result {
		close(begun)
		<-fail
		return Result{Err: errFailed}
	})
	b.run(t)
	b.append(t, "k", 1)
	<-begun
	require.NoError(t, b.client.FlushAll(t.Context()).Err())
	b.set(nil)
	close(fail)
	b.eventually(t, "not settled", func() bool { return len(b.settled) == 1 })
	b.append(t, "k", 3)
	b.done(t, 3)
	assert.Equal(t, []journal.Reason{journal.Wiped}, b.reasons())
}

func TestFrozenServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	client := redis.NewClient(&redis.Options{Addr: b.server.Addr(), ReadTimeout: 300 * time.Millisecond, DialTimeout: 300 * time.Millisecond})
	t.Cleanup(func() { _ = client.Close() })
	var slow atomic.Bool
	b.set(func(ctx context.Context, _ Event) Result {
		if slow.CompareAndSwap(false, true) {
			b.server.Stop()
			_ = redisx.Sleep(ctx, 2*time.Second) // is how long it is frozen
			b.server.Continue()
		}
		return Result{}
	})
	for range 2 {
		b.run(t, func(s *Settings) { s.Client = client })
	}
	b.append(t, "k", 2)
	b.done(t, 2)
	b.append(t, "k", 20)
	b.done(t, 22)
	assert.Empty(t, b.reasons())
}

func TestServerRestarts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts []redistest.Option
		gap  journal.Reason
	}{
		"with its data":    {[]redistest.Option{redistest.WithPersistence()}, journal.Restarted},
		"without its data": {nil, journal.Wiped},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, test.opts...)
			for range 2 {
				b.run(t)
			}
			b.append(t, "k", 10)
			b.done(t, 10)
			b.server.Shutdown()
			b.server.Restart()
			b.append(t, "k", 10)
			b.done(t, 20)
			require.Eventually(t, func() bool { return len(b.reasons()) > 0 }, patience, 10*time.Millisecond)
			assert.Equal(t, []journal.Reason{test.gap}, b.reasons())
		})
	}
}

// To report a gap may take longer than a leader leads without a sign of life: it gives some.
func TestLeadersLeadWhileTheyReport(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run(t)() // makes the group
	b.append(t, "k", 1)
	require.NoError(t, b.client.Del(t.Context(), b.keys.Journal).Err())
	until := func() string { return b.client.HGet(t.Context(), b.k.progress, "until").Val() }
	extended := make(chan bool, 1)
	b.run(t, func(s *Settings) {
		s.Gap = func(journal.Reason, string, uint64) {
			before := until()
			extended <- assert.Eventually(t, func() bool { return until() > before }, patience, 10*time.Millisecond)
		}
	})
	assert.True(t, <-extended)
}

// TestFeedOfAFormerTermArrivesLate: what the leader has read no longer follows, though no other member leads. It begins anew at
// once, and not when its term is over.
func TestFeedOfAFormerTermArrivesLate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run(t)() // makes the group
	first := b.append(t, "k", 1)
	b.append(t, "k", 2)
	var once sync.Once
	b.run(t, func(s *Settings) {
		body := s.Body
		s.Body = func(e *journal.Entry) (string, bool) { // is called between reading and feeding
			once.Do(func() {
				at, err := parseProgress(b.client.HGet(t.Context(), b.k.progress, "known").Val())
				assert.NoError(t, err)
				pos, ok := position(first)
				assert.True(t, ok)
				at.cursor = journal.Envelope{ID: first, Pos: pos}
				assert.NoError(t, b.client.HSet(t.Context(), b.k.progress, "known", at.String(),
					"until", time.Now().Add(time.Hour).UnixMilli()).Err())
			})
			return body(e)
		}
	})
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.handled) == 2
	}, patience, 10*time.Millisecond)
}
