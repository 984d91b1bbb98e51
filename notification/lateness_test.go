package notification

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
)

// limitOf returns a limit, or nil if the server's clock is not known.
func limitOf(l *lateness, now time.Time) any {
	text, _ := l.limit(now)
	return text
}

func TestLimitIsOnTheServersClock(t *testing.T) {
	t.Parallel()
	var l lateness
	l.allow(nil)
	now := time.UnixMilli(1_000_000_000_000)
	assert.Nil(t, limitOf(&l, now), "before the clock is known")
	require.ErrorIs(t, l.learn("no time", now), errProtocol)
	require.ErrorIs(t, l.learn(nil, now), errProtocol)
	assert.Nil(t, limitOf(&l, now))
	require.NoError(t, l.learn("2000000000000", now))
	assert.Equal(t, "2000000001792", limitOf(&l, now), "two seconds, less a step, rounded up to the next")
	assert.Equal(t, "2000000002048", limitOf(&l, now.Add(limitStep*time.Millisecond)))
	l.forget()
	assert.Nil(t, limitOf(&l, now))
}

// TestLimitIsNotBeyondTheReadTimeout: nor so close that every attempt would be late.
func TestLimitIsNotBeyondTheReadTimeout(t *testing.T) {
	t.Parallel()
	for timeout, longest := range map[time.Duration]time.Duration{
		2 * time.Millisecond: 2 * time.Millisecond, 3 * time.Millisecond: 3 * time.Millisecond,
		100 * time.Millisecond: 100 * time.Millisecond, 256 * time.Millisecond: 256 * time.Millisecond,
		257 * time.Millisecond: 257 * time.Millisecond, time.Second: time.Second,
		5 * time.Second: maxLateness, -1: maxLateness,
	} {
		client := redis.NewClient(&redis.Options{ReadTimeout: timeout})
		t.Cleanup(func() { _ = client.Close() })
		var l lateness
		l.allow(client)
		begin := time.UnixMilli(1_000_000_000_000)
		require.NoError(t, l.learn("1000000000000", begin))
		for now := begin; now.Before(begin.Add(time.Second)); now = now.Add(time.Millisecond) {
			end, err := strconv.ParseInt(limitOf(&l, now).(string), 10, 64)
			require.NoError(t, err)
			allowed := time.UnixMilli(end).Sub(now)
			assert.LessOrEqual(t, allowed, longest, timeout)
			assert.GreaterOrEqual(t, allowed, longest/2, timeout)
		}
	}
}

// TestSlowCallMovesNoLimit: a call that was under way for long says less of the server's clock than a fast one before it.
func TestSlowCallMovesNoLimit(t *testing.T) {
	t.Parallel()
	var l lateness
	l.allow(nil)
	now := time.UnixMilli(1_000_000_000_000)
	require.NoError(t, l.learn("2000000000000", now))
	limit := limitOf(&l, now)
	require.NoError(t, l.learn("2000000001500", now))
	assert.Equal(t, limit, limitOf(&l, now))
	require.NoError(t, l.learn("1999999999000", now))
	assert.Equal(t, "2000000000768", limitOf(&l, now), "a faster one says more")
	l.forget()
	require.NoError(t, l.learn("2000000001000", now))
	_, known := l.limit(now)
	require.False(t, known, "what was sent before it was forgotten tells nothing")
	now = time.UnixMilli(3_000_000_000_000)
	require.NoError(t, l.learn("4000000001500", now))
	assert.Equal(t, "4000000003328", limitOf(&l, now), "another clock begins anew")
}

// TestPlacesThatStandStill: the server's clock was set back, and places are those of before until it has caught up.
func TestPlacesThatStandStill(t *testing.T) {
	t.Parallel()
	var l lateness
	l.allow(nil)
	now := time.Now()
	at := func(ahead int64) string { return strconv.FormatInt(now.UnixMilli()+ahead, 10) }
	require.NoError(t, l.learn(at(1000), now))
	for range 100 {
		now = now.Add(50 * time.Millisecond)
		l.placed(at(1000)+"-7", now)
		require.False(t, l.standing.Load(), "they go on")
	}
	last := at(1000) + "-8"
	for range 5 {
		now = now.Add(50 * time.Millisecond)
		l.placed(last, now)
		require.False(t, l.standing.Load(), "not for long yet")
	}
	now = now.Add(50 * time.Millisecond)
	l.placed(last, now)
	require.True(t, l.standing.Load())
	require.Nil(t, limitOf(&l, now), "the clock is asked for")
	now = now.Add(time.Second)
	l.compare(at(-3000), last, now)
	require.True(t, l.standing.Load(), "it is behind")
	l.compare(at(-3000), "", now)
	require.True(t, l.standing.Load(), "nothing was given a place")
	l.compare("no time", at(-3000)+"-0", now)
	require.True(t, l.standing.Load())
	now = now.Add(10 * time.Second)
	l.compare(at(-3000), at(-2999)+"-0", now)
	require.False(t, l.standing.Load(), "it has caught up")
	now = now.Add(time.Second)
	l.placed(at(-3000)+"-0", now)
	require.False(t, l.standing.Load())
}

// TestSlowCallDoublesNoEvent: an attempt that is held up for longer than the client waits does nothing when it arrives,
// also if a call before it was slow and yet answered in time.
func TestSlowCallDoublesNoEvent(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	client := redis.NewClient(&redis.Options{
		Addr: proxy.Addr(), PoolSize: 1, ReadTimeout: 2 * time.Second,
		Dialer:                   proxy.DialUndelayed,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = client.Close() })
	n, err := NewRedisNotificationSystem(client)
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Shutdown(context.Background()) })
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	proxy.SetLatency(800 * time.Millisecond)
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	proxy.SetLatency(2300 * time.Millisecond)
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	admin := server.Client(t)
	require.Eventually(t, func() bool {
		return strings.Contains(admin.Info(t.Context(), "errorstats").Val(), "errorstat_LATE:count=1")
	}, 10*time.Second, time.Millisecond, "the late attempt arrives")
	assert.EqualValues(t, 3, admin.XLen(t.Context(), n.keys.journal).Val(), "published once each time")
}

// TestServersClockIsSet: events that are refused as late, as the clock is not what it was, are published all the same, once
// and without costing more for ever.
func TestServersClockIsSet(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n, err := NewRedisNotificationSystem(client)
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Shutdown(context.Background()) })
	commands := &scripts{}
	client.AddHook(commands)
	l := &n.publisher.lateness
	for count, publish := range []func() error{
		func() error { return n.Publish(t.Context(), "k", struct{}{}) },
		func() error { return n.PublishBatch(t.Context(), To("k", struct{}{}), To("k", struct{}{})) },
	} {
		require.NoError(t, publish())
		require.NotEqual(t, int64(unknown), l.ahead.Load())
		l.ahead.Store(-time.Hour.Milliseconds())
		commands.take()
		require.NoError(t, publish())
		sent := commands.take()
		require.Len(t, sent, 3, "too late by the clock of before, then what the clock is now, then again")
		assert.NotContains(t, sent[2], noLimit, "it could come after its repetition")
		assert.Zero(t, l.ahead.Load()/time.Minute.Milliseconds())
		length := client.XLen(t.Context(), n.keys.journal).Val()
		assert.EqualValues(t, []int{2, 6}[count], length)
	}
}

// TestJournalAheadOfTheClock: what counts is the clock, so events that follow cost no more, and are given up all the same.
func TestJournalAheadOfTheClock(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n, err := NewRedisNotificationSystem(client)
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Shutdown(context.Background()) })
	last := redis.XAddArgs{Stream: n.keys.journal, ID: "8000000000000-0", Values: []any{"k", "v"}}
	require.NoError(t, client.XAdd(t.Context(), &last).Err())
	commands := &scripts{}
	publish := func() {
		require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
		require.NoError(t, n.PublishBatch(t.Context(), To("k", struct{}{}), To("k", struct{}{})))
	}
	publish() // the scripts are known
	client.AddHook(commands)
	for range 5 {
		publish()
	}
	sent := commands.take()
	assert.Len(t, sent, 10)
	for _, args := range sent {
		limit := args[6]
		if args[1] == n.publisher.scripts.many.Command(t.Context(), nil).Args()[1] {
			limit = args[7]
		}
		assert.Less(t, limit, "8", "the limit")
	}
	assert.EqualValues(t, 19, client.XLen(t.Context(), n.keys.journal).Val())
}

// scripts is a hook that notes the arguments of all scripts that were run and known.
type scripts struct {
	redistest.Hook

	mu  sync.Mutex
	ran [][]any
}

func (h *scripts) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if strings.HasPrefix(cmd.Name(), "eval") && !redis.HasErrorPrefix(err, "NOSCRIPT") {
			h.mu.Lock()
			h.ran = append(h.ran, cmd.Args())
			h.mu.Unlock()
		}
		return err
	}
}

// take returns what was noted since it was called last.
func (h *scripts) take() [][]any {
	h.mu.Lock()
	defer h.mu.Unlock()
	ran := h.ran
	h.ran = nil
	return ran
}

// TestLateEventOfACallerWhoIsGone: being late is no refusal for good, so the error is that of the caller's context too.
func TestLateEventOfACallerWhoIsGone(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n, err := NewRedisNotificationSystem(client)
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Shutdown(context.Background()) })
	require.NoError(t, n.PublishBatch(t.Context(), To("k", struct{}{}), To("k", struct{}{}))) // the script is known now
	n.publisher.lateness.ahead.Store(-time.Hour.Milliseconds())
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	client.AddHook(redistest.AfterScript(func() { cancel(gone) }))
	err = n.PublishBatch(ctx, To("k", struct{}{}), To("k", struct{}{})) // which waits for the reply
	require.ErrorIs(t, err, gone)
	require.ErrorContains(t, err, "LATE")
	var failed *PublishError
	require.ErrorAs(t, err, &failed)
	assert.False(t, failed.Uncertain)
}
