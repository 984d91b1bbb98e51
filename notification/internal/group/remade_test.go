package group

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/notification/internal/journal"
)

// A group is removed, and made again with another pattern before its members have noticed. They take nothing that is
// for others, and end with an error.
func TestGroupsThatAreMadeAgainWithAnotherPattern(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(ctx context.Context, b *bundle) error{
		"all was flushed":       func(ctx context.Context, b *bundle) error { return b.client.FlushAll(ctx).Err() },
		"the group was removed": func(ctx context.Context, b *bundle) error { return b.client.Del(ctx, b.k.progress).Err() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			set := b.settings(b.client)
			ready, over := make(chan struct{}), make(chan error, 1)
			set.Ready = func() { close(ready) }
			go func() { over <- Run(t.Context(), set) }()
			<-ready
			b.append(t, "k", 1)
			b.done(t, 1)

			require.NoError(t, remove(t.Context(), b))
			b.run(t, func(s *Settings) {
				s.Pattern = "other"
				s.Body = func(e *journal.Entry) (string, bool) { return e.Value, e.Channels[0] == "other" }
			})
			b.append(t, "other", 20)
			b.done(t, 21)
			var pattern *PatternError
			select {
			case err := <-over:
				require.ErrorAs(t, err, &pattern)
			case <-time.After(patience):
				require.FailNow(t, "the member goes on")
			}
			assert.Equal(t, "other", pattern.Pattern)
		})
	}
}

// Each script of a member with another pattern is refused.
func TestScriptsRefuseAnotherPattern(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run(t)() // makes the group
	known := b.client.HGet(t.Context(), b.k.progress, "known").Val()
	set := b.settings(b.client)
	set.Pattern = "other"
	o := newOps(&set)
	for name, do := range map[string]func(ctx context.Context) error{
		"join": func(ctx context.Context) error { return o.doJoin(ctx, b.client, known, known) },
		"lead": func(ctx context.Context) error {
			_, err := o.doLead(ctx, b.client, known, "later", 0)
			return err
		},
		"feed": func(ctx context.Context) error {
			_, _, _, err := o.doFeed(ctx, b.client, known, "later", []fed{{"1", "x"}})
			return err
		},
		"turn": func(ctx context.Context) error {
			_, err := o.doTurn(ctx, b.client, turnRequest{number: 1, room: 1})
			return err
		},
	} {
		var pattern *PatternError
		require.ErrorAs(t, do(t.Context()), &pattern, name)
		assert.Equal(t, "k", pattern.Pattern, name)
	}
	assert.Equal(t, known, b.client.HGet(t.Context(), b.k.progress, "known").Val())
	assert.Zero(t, b.client.HLen(t.Context(), b.k.events).Val())
}

// A group is lost, and made again by a new member before the old ones have noticed. What the group held is lost, which one
// member reports once, however many there are.
func TestGroupsThatAStrangerMakesAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	begun, release := make(chan struct{}, 9), make(chan struct{})
	b.set(func(context.Context, Event) Result {
		begun <- struct{}{}
		<-release
		return Result{}
	})
	for range 3 {
		b.run(t)
	}
	b.append(t, "k", 6) // three are being handled, three wait
	for range 3 {
		<-begun
	}
	b.eventually(t, "not all was read", func() bool { return b.client.HGet(t.Context(), b.k.progress, "held").Val() == "6" })
	require.NoError(t, b.client.Del(t.Context(), b.k.progress, b.k.events, b.k.due, b.k.wake, b.k.dead).Err())
	b.run(t) // begins at the end of the journal
	b.eventually(t, "the old members never noticed", func() bool {
		fields, err := b.client.HLen(t.Context(), b.k.progress).Result()
		return err == nil && fields > 0 && b.client.HGet(t.Context(), b.k.progress, "formers").Val() == "1" && len(b.gaps) > 0
	})
	close(release)
	b.append(t, "k", 3)
	b.done(t, 6) // three that the old members had, and the new ones
	assert.Equal(t, []journal.Reason{journal.Wiped}, b.reasons())
}
