package notification_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification"
)

// work records what the functions of a group were called with.
type work struct {
	mu    sync.Mutex
	calls []call
	more  chan struct{} // has room for one
}

type call struct {
	n, attempt  int
	redelivered bool
}

func newWork() *work { return &work{more: make(chan struct{}, 1)} }

func (w *work) add(ctx context.Context, v numbered) {
	m, _ := notification.MessageFrom(ctx)
	w.mu.Lock()
	w.calls = append(w.calls, call{v.N, notification.AttemptFrom(ctx), m != nil && m.Redelivered})
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// all returns the calls until now.
func (w *work) all() []call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]call(nil), w.calls...)
}

// numbers returns how often each number was handled.
func (w *work) numbers() map[int]int {
	counts := make(map[int]int)
	for _, c := range w.all() {
		counts[c.n]++
	}
	return counts
}

// until waits until the calls are as wanted.
func (w *work) until(tb testing.TB, what string, wanted func() bool) {
	tb.Helper()
	limit := time.After(patience)
	for !wanted() {
		select {
		case <-w.more:
		case <-time.After(20 * time.Millisecond):
		case <-limit:
			require.FailNow(tb, what, "%d calls: %v", len(w.all()), w.numbers())
		}
	}
}

// first waits until each number up to n was handled.
func (w *work) first(tb testing.TB, n int) {
	tb.Helper()
	w.until(tb, "not everything was handled", func() bool { return len(w.numbers()) >= n })
}

// consume takes part in a group until the test ends, or the function returned is called, which returns what Consume does. It
// returns when the member is ready.
func consume(
	tb testing.TB, n notification.NotificationSystem, group, pattern string, handle func(context.Context, numbered) error,
	opts ...notification.ConsumeOption,
) (stop func() error) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, over := make(chan struct{}), make(chan struct{})
	var result error
	go func() {
		defer close(over)
		opts := append([]notification.ConsumeOption{notification.WithReady(func() { close(ready) })}, opts...)
		result = notification.Consume(ctx, n, group, pattern, handle, opts...)
	}()
	stop = func() error {
		cancel()
		select {
		case <-over:
		case <-time.After(patience):
			require.FailNow(tb, "Consume does not return")
		}
		return result
	}
	tb.Cleanup(func() { _ = stop() })
	select {
	case <-ready:
	case <-over:
		require.FailNow(tb, "not ready", "%v", result)
	case <-time.After(patience):
		require.FailNow(tb, "not ready")
	}
	return stop
}

// handled returns a function for a group that records.
func (w *work) handled(ctx context.Context, v numbered) error {
	w.add(ctx, v)
	return nil
}

// publish publishes the numbers from one to another, both included.
func publish(tb testing.TB, n *notification.RedisNotificationSystem, channel string, from, to int) {
	tb.Helper()
	for i := from; i <= to; i++ {
		require.NoError(tb, n.Publish(tb.Context(), channel, numbered{i}))
	}
}

// Each event is handled by one member of a group, and once by each group.
func TestConsumeSharesEventsAmongTheMembersOfAGroup(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	const events = 60
	var members []*work
	for range 3 {
		w := newWork()
		members = append(members, w)
		consume(t, newSystem(t, client), "workers", "job:*", func(ctx context.Context, v numbered) error {
			w.add(ctx, v)
			return redisx.Sleep(ctx, 2*time.Millisecond) // is work
		})
	}
	other := newWork()
	consume(t, newSystem(t, client), "audit", "job:*", other.handled)
	n := newSystem(t, client)
	for i := 1; i <= events; i++ {
		publish(t, n, fmt.Sprint("job:", i%3), i, i)
		publish(t, n, "other", 1000, 1000) // nobody's
	}
	other.first(t, events)
	for i, c := range other.all() {
		require.Equal(t, call{n: i + 1, attempt: 1}, c, "in order, and once")
	}
	total := func() (sum int) {
		for _, w := range members {
			sum += len(w.all())
		}
		return sum
	}
	members[0].until(t, "not all were handled", func() bool { return total() >= events })
	seen := make(map[int]int)
	for _, w := range members {
		assert.NotEmpty(t, w.all(), "every member got some")
		for i, count := range w.numbers() {
			seen[i] += count
		}
	}
	assert.Len(t, seen, events)
	assert.Equal(t, events, total(), "each once")
	assert.NotContains(t, seen, 1000)
}

// A failed event comes again with a growing pause, and then goes to the dead letters.
func TestConsumeRepeatsAndGivesUp(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	log, logs := logging()
	n := newSystem(t, client, log)
	w := newWork()
	var times []time.Time
	stop := consume(t, n, "g", "k", func(ctx context.Context, v numbered) error {
		w.add(ctx, v)
		m, _ := notification.MessageFrom(ctx)
		assert.Equal(t, "k", m.Channel)
		switch {
		case v.N == 1:
			times = append(times, time.Now()) // concurrency is 1
			return errors.New("out of order")
		case v.N == 2 && notification.AttemptFrom(ctx) < 3:
			panic("failed badly")
		case v.N == 3:
			return fmt.Errorf("no use: %w", notification.Permanent(errors.New("never")))
		}
		return nil
	}, notification.WithMaxAttempts(4), notification.WithBackoff(50*time.Millisecond, 100*time.Millisecond))
	publish(t, n, "k", 1, 3)
	require.NoError(t, n.Publish(t.Context(), "k", struct {
		N string `json:"n"`
	}{"no number"}))
	publish(t, n, "k", 4, 4)
	w.until(t, "not given up", func() bool { return n.GetMetrics().DeadLetters == 3 && n.GetMetrics().EventsConsumed == 2 })
	require.NoError(t, stop())
	assert.Equal(t, map[int]int{1: 4, 2: 3, 3: 1, 4: 1}, w.numbers())
	for i, pause := range []int64{50, 100, 100} {
		assert.GreaterOrEqual(t, times[i+1].Sub(times[i]).Milliseconds(), pause)
	}
	for _, c := range w.all() {
		assert.Equal(t, c.attempt > 1, c.redelivered)
	}
	letters := make(map[string]*notification.DeadLetter)
	for letter, err := range n.DeadLetters(t.Context(), "g") {
		require.NoError(t, err)
		letters[letter.Error] = letter
		assert.Equal(t, "k", letter.Message.Channel)
		assert.WithinDuration(t, time.Now(), letter.Time, time.Minute)
	}
	require.Len(t, letters, 3)
	first := letters["out of order"]
	require.NotNil(t, first)
	assert.Equal(t, 4, first.Attempts)
	v, err := notification.Decode[numbered](first.Message)
	require.NoError(t, err)
	assert.Equal(t, 1, v.N)
	assert.NotEmpty(t, first.Message.EventID)
	assert.Equal(t, 1, letters["no use: never"].Attempts)

	m := n.GetMetrics()
	assert.EqualValues(t, 5, m.EventsRetried, "three of the first, two of the second")
	assert.EqualValues(t, 8, m.HandlerErrors)
	assert.Len(t, logs.FilterMessage("notification: event given up, and put into the dead letters").All(), 3)
	assert.Zero(t, client.HLen(t.Context(), "cache:{notification}:group:g:events").Val())
	assert.Zero(t, client.ZCard(t.Context(), "cache:{notification}:group:g:due").Val())
	assert.Equal(t, "0", client.HGet(t.Context(), "cache:{notification}:group:g:progress", "held").Val())
	assert.Equal(t, "0", client.HGet(t.Context(), "cache:{notification}:group:g:progress", "bytes").Val())
}

// An event that a member which stops gives back was handed out before, though that attempt does not count.
func TestConsumeSaysThatAnEventWasHandedOutBefore(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	begun := make(chan struct{})
	stop := consume(t, n, "g", "k", func(ctx context.Context, _ numbered) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	})
	publish(t, n, "k", 1, 1)
	<-begun
	require.NoError(t, stop())
	w := newWork()
	consume(t, n, "g", "k", w.handled)
	publish(t, n, "k", 2, 2)
	w.first(t, 2)
	assert.Equal(t, []call{{1, 1, true}, {2, 1, false}}, w.all())
}

// The group goes on where it was, also when nobody was there and the journal is gone.
func TestConsumeKeepsItsProgress(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	publish(t, n, "k", 1, 5) // before the group
	w := newWork()
	stop := consume(t, n, "g", "k", w.handled)
	publish(t, n, "k", 6, 10)
	w.first(t, 5)
	require.NoError(t, stop())
	publish(t, n, "k", 11, 15)
	stop = consume(t, n, "g", "k", w.handled)
	w.first(t, 10)
	require.NoError(t, stop())
	counts := w.numbers()
	for i := 6; i <= 15; i++ {
		assert.Equal(t, 1, counts[i], i)
	}
	assert.Len(t, counts, 10)

	w = newWork()
	consume(t, n, "all", "k", w.handled, notification.WithFrom(""))
	w.first(t, 15)
}

func TestConsumeRefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t))
	ignore := func(context.Context, numbered) error { return nil }
	ctx := t.Context()
	consume(t, n, "g", "k", ignore)
	for argument, err := range map[string]error{
		"ctx":             notification.Consume(nil, n, "g", "k", ignore), //nolint:staticcheck // on purpose
		"n":               notification.Consume(ctx, nil, "g", "k", ignore),
		"group":           notification.Consume(ctx, n, "", "k", ignore),
		"handle":          notification.Consume[numbered](ctx, n, "g", "k", nil),
		"pattern":         notification.Consume(ctx, n, "g", "[", ignore),
		"opts":            notification.Consume(ctx, n, "g", "k", ignore, nil),
		"WithMaxAttempts": notification.Consume(ctx, n, "g", "k", ignore, notification.WithMaxAttempts(-1)),
		"WithBackoff":     notification.Consume(ctx, n, "g", "k", ignore, notification.WithBackoff(time.Second, time.Millisecond)),
		"WithClaimAfter":  notification.Consume(ctx, n, "g", "k", ignore, notification.WithClaimAfter(time.Millisecond)),
		"WithConcurrency": notification.Consume(ctx, n, "g", "k", ignore, notification.WithConcurrency(-1)),
		"WithDeadLetters": notification.Consume(ctx, n, "g", "k", ignore, notification.WithDeadLetters(-1)),
		"WithFrom":        notification.Consume(ctx, n, "g", "k", ignore, notification.WithFrom("yesterday")),
	} {
		var wrong *notification.ArgumentError
		require.ErrorAs(t, err, &wrong, argument)
		assert.Equal(t, argument, wrong.Argument)
	}
	const ever = time.Duration(1<<63 - 1)
	for _, opt := range []notification.ConsumeOption{
		notification.WithBackoff(ever, 0), notification.WithBackoff(time.Second, ever), notification.WithClaimAfter(ever),
	} {
		require.ErrorContains(t, notification.Consume(ctx, n, "g", "k", ignore, opt), "30 days")
	}
	err := notification.Consume(ctx, n, "g", "other", ignore)
	require.ErrorIs(t, err, notification.ErrInvalidArgument)
	require.ErrorContains(t, err, `pattern is "other", and that of the group "g" is "k"`)
	require.ErrorContains(t, notification.Consume(ctx, script(nil), "g", "k", ignore), "which has no groups")
	without := newSystem(t, redistest.Start(t).Client(t), notification.WithHistory(0, 0))
	require.ErrorIs(t, notification.Consume(ctx, without, "g", "k", ignore), notification.ErrNoHistory)
	require.NoError(t, n.Close())
	require.ErrorIs(t, notification.Consume(ctx, n, "g", "k", ignore), notification.ErrClosed)
}
