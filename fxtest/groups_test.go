package fxtest_test

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/fxtest"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// grouped is what this test needs of a system.
type grouped interface {
	notification.NotificationSystem
	notification.Consumer
	Publish(ctx context.Context, channel string, v any) error
	DeadLetters(ctx context.Context, group string) iter.Seq2[*notification.DeadLetter, error]
}

// The fake shares, repeats, gives up and keeps the events of a group as the real system does.
func TestGroupsOfTheFakeAreLikeRealOnes(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) grouped{
		"fake": func(*testing.T) grouped { return fxtest.NewNotificationSystem() },
		"real": func(t *testing.T) grouped {
			t.Helper()
			n, err := notification.NewRedisNotificationSystem(redistest.Start(t).Client(t))
			require.NoError(t, err)
			return n
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testGroups(t, start(t))
		})
	}
}

func testGroups(t *testing.T, n grouped) {
	t.Helper()
	type event struct {
		N int `json:"n"`
	}
	type call struct{ n, attempt int }
	calls := make(chan call, 100)
	var fives atomic.Int32 // how often 5 was handed out: it is given back each time, and that does not count as an attempt
	consume := func(ctx context.Context, opts ...notification.ConsumeOption) <-chan error {
		ready, over := make(chan struct{}), make(chan error, 1)
		opts = append(opts, notification.WithReady(sync.OnceFunc(func() { close(ready) })),
			notification.WithMaxAttempts(2), notification.WithBackoff(time.Millisecond, time.Second))
		go func() {
			over <- notification.Consume(ctx, n, "g", "k*", func(ctx context.Context, e event) error {
				m, _ := notification.MessageFrom(ctx)
				assert.Equal(t, "k1", m.Channel)
				assert.Equal(t, "k*", m.Pattern)
				assert.Equal(t, notification.AttemptFrom(ctx) > 1 || e.N == 5 && fives.Add(1) > 1, m.Redelivered)
				calls <- call{e.N, notification.AttemptFrom(ctx)}
				switch {
				case e.N == 2, e.N == 3 && notification.AttemptFrom(ctx) == 1:
					return errors.New("failed")
				case e.N == 4:
					return notification.Permanent(errors.New("never"))
				case e.N == 5:
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}, opts...)
		}()
		<-ready
		return over
	}
	publish := func(numbers ...int) {
		for _, i := range numbers {
			require.NoError(t, n.Publish(t.Context(), "k1", event{i}))
			require.NoError(t, n.Publish(t.Context(), "other", event{i}))
		}
	}
	publish(1)
	ctx, cancel := context.WithCancel(t.Context())
	first := consume(ctx, notification.WithFrom(""))
	publish(2, 3, 4, 6)
	got := make(map[call]int)
	for range 7 {
		got[<-calls]++
	}
	assert.Equal(t, map[call]int{{1, 1}: 1, {2, 1}: 1, {2, 2}: 1, {3, 1}: 1, {3, 2}: 1, {4, 1}: 1, {6, 1}: 1}, got)
	publish(5)
	require.Equal(t, call{5, 1}, <-calls)
	cancel()
	require.NoError(t, <-first)
	publish(7)
	ctx, cancel = context.WithCancel(t.Context())
	second := consume(ctx, notification.WithFrom(""))
	require.Equal(t, call{5, 1}, <-calls, "that attempt did not count")
	require.ErrorIs(t, notification.Consume(ctx, n, "g", "k", func(context.Context, event) error { return nil }), notification.ErrInvalidArgument)
	cancel()
	require.NoError(t, <-second)

	var letters []string
	for letter, err := range n.DeadLetters(t.Context(), "g") {
		require.NoError(t, err)
		letters = append(letters, letter.Error)
		assert.Equal(t, "k1", letter.Message.Channel)
	}
	assert.ElementsMatch(t, []string{"failed", "never"}, letters)

	third := consume(t.Context())
	require.Equal(t, call{5, 1}, <-calls)
	require.NoError(t, n.Close())
	require.ErrorIs(t, <-third, notification.ErrClosed)
}
