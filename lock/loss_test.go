package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// isLost waits until the loss of a lock was told.
func isLost(t testing.TB, l *lock.RedisLock) {
	t.Helper()
	wait(t, l.Lost(), "loss")
	assert.False(t, l.IsHeld())
	wait(t, l.Context().Done(), "end of the context")
}

func TestRenewalKeepsALock(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	l := acquire(t, m, "job", 6*time.Second) // with four of them to renew it in
	client := server.Client(t)
	require.Eventually(t, func() bool {
		require.True(t, l.IsHeld())
		require.Positive(t, client.PTTL(t.Context(), "cache:lock:{job}").Val())
		return m.GetMetrics().RenewalsTotal >= 2
	}, patience, tick)
	require.NoError(t, m.Alive())
	require.NoError(t, l.Release(t.Context()))
}

func TestWithoutRenewalALockEndsInTime(t *testing.T) {
	t.Parallel()
	_, m := setup(t, lock.WithRenewal(false))
	begin := time.Now()
	const ttl = 3 * time.Second
	l := acquire(t, m, "job", ttl)
	require.NoError(t, l.Refresh(t.Context()))
	refreshed := time.Now()
	isLost(t, l)
	assert.False(t, time.Now().Before(l.Until()), "not told too early")
	assert.True(t, l.Until().After(begin.Add(ttl/2)))
	assert.True(t, l.Until().Before(refreshed.Add(ttl)))
	require.ErrorIs(t, context.Cause(l.Context()), lock.ErrLockExpired)
	err := l.Refresh(t.Context())
	require.ErrorIs(t, err, lock.ErrLockNotHeld)
	require.ErrorIs(t, err, lock.ErrLockExpired)
	require.ErrorIs(t, l.Release(t.Context()), lock.ErrLockExpired)
}

// TestLossIsToldBeforeTheKeyExpires stops the way to Redis in every manner. The key then lives at least TTL from the
// last confirmed call; the time before that call is the earliest that the test knows for sure. The loss is told though
// calls hang for longer than the test waits. That it is told at the very time which Until says is shown in a bubble, where
// a busy machine makes nothing late.
func TestLossIsToldBeforeTheKeyExpires(t *testing.T) {
	t.Parallel()
	const ttl = 3 * time.Second
	for name, harm := range map[string]func(*redistest.Server, *faultproxy.Proxy){
		"server stopped":     func(s *redistest.Server, _ *faultproxy.Proxy) { s.Stop() },
		"server killed":      func(s *redistest.Server, _ *faultproxy.Proxy) { s.Kill() },
		"requests swallowed": func(_ *redistest.Server, p *faultproxy.Proxy) { p.SwallowToServer(true) },
		"replies swallowed":  func(_ *redistest.Server, p *faultproxy.Proxy) { p.SwallowToClient(true) },
		"connections cut":    func(_ *redistest.Server, p *faultproxy.Proxy) { p.Refuse(true); p.Cut() },
		"clients paused": func(s *redistest.Server, _ *faultproxy.Proxy) {
			c := redisClient(s)
			defer func() { _ = c.Close() }()
			_ = c.Do(context.Background(), "CLIENT", "PAUSE", "60000", "ALL").Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			proxy := faultproxy.New(t, server.Addr())
			core, logs := observer.New(zap.InfoLevel)
			m := newManager(t, newPatientClient(t, proxy.Addr()), lock.WithLogger(zap.New(core)), lock.WithNodeTimeout(time.Hour))
			l := acquire(t, m, "job", ttl)
			until := l.Until()
			require.NoError(t, l.Refresh(t.Context()))
			require.True(t, l.Until().After(until))
			harm(server, proxy)
			harmed := time.Now()
			// Whatever was confirmed was sent before now, so the key lives until then plus TTL at least.
			last := l.Until()
			isLost(t, l)
			assert.True(t, l.Until().Before(harmed.Add(ttl)), "%v after the harm", l.Until().Sub(harmed))
			assert.False(t, l.Until().Before(last))
			require.ErrorIs(t, context.Cause(l.Context()), lock.ErrLockExpired)
			require.Eventually(t, func() bool { // the holder is told first
				return logs.FilterMessage("lock: lost").FilterField(zap.String("resource", "job")).Len() == 1 &&
					m.GetMetrics().LostExpired == 1
			}, patience, tick)

			// Nothing revives it.
			if server.Running() {
				server.Continue()
			}
			proxy.SwallowToServer(false)
			proxy.SwallowToClient(false)
			proxy.Refuse(false)
			proxy.Cut() // what hangs ends
			require.ErrorIs(t, l.Refresh(t.Context()), lock.ErrLockExpired)
			require.ErrorIs(t, l.Release(t.Context()), lock.ErrLockNotHeld)
			assert.False(t, l.IsHeld())
		})
	}
}

// TestShortHarmIsSurvived: what a third of the TTL bridges is nobody's loss.
func TestShortHarmIsSurvived(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	core, logs := observer.New(zap.WarnLevel)
	const ttl = 8 * time.Second
	m := newManager(t, newClient(t, proxy.Addr()), lock.WithLogger(zap.New(core)), lock.WithNodeTimeout(ttl/8))
	l := acquire(t, m, "job", ttl)
	proxy.SwallowToClient(true)
	require.Eventually(t, func() bool { return m.GetMetrics().RenewalsFailed > 0 }, patience, tick)
	proxy.SwallowToClient(false)
	until := l.Until()
	require.Eventually(t, func() bool { return l.Until().After(until) }, patience, tick)
	assert.True(t, l.IsHeld())
	assert.NotZero(t, logs.FilterMessage("lock: renewal failed").FilterField(zap.String("resource", "job")).Len())
	assert.Zero(t, logs.FilterMessage("lock: lost").Len())
}

func TestLossByOthersIsToldWithItsCause(t *testing.T) {
	t.Parallel()
	const ttl = 4 * time.Second
	for name, test := range map[string]struct {
		command []any
		cause   error
	}{
		"overwritten": {[]any{"SET", "cache:lock:{job}", "thief"}, lock.ErrLockStolen},
		"deleted":     {[]any{"DEL", "cache:lock:{job}"}, lock.ErrLockExpired},
		"replaced": {[]any{"EVAL", "redis.call('DEL', KEYS[1]) return redis.call('RPUSH', KEYS[1], 'x')", 1, "cache:lock:{job}"},
			lock.ErrLockStolen},
		"flushed": {[]any{"FLUSHALL"}, lock.ErrLockExpired},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, m := setup(t)
			l := acquire(t, m, "job", ttl)
			require.NoError(t, server.Client(t).Do(t.Context(), test.command...).Err())
			harmed := time.Now()
			isLost(t, l)
			assert.True(t, l.Until().Before(harmed.Add(ttl)), "nothing was confirmed any more")
			require.ErrorIs(t, context.Cause(l.Context()), test.cause)
			require.ErrorIs(t, l.Release(t.Context()), test.cause)
			if name == "overwritten" {
				assert.Equal(t, "thief", server.Client(t).Get(t.Context(), "cache:lock:{job}").Val())
			}
		})
	}
}

func TestTokensGrowThroughDataLoss(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	var tokens []int64
	next := func() {
		l := acquire(t, m, "job", longTTL)
		tokens = append(tokens, l.Token())
		require.NoError(t, l.Release(t.Context()))
	}
	for range 3 {
		next()
	}
	require.NoError(t, server.Client(t).FlushAll(t.Context()).Err())
	next()
	server.Restart()
	require.Eventually(t, func() bool { return m.HealthCheck(t.Context()) == nil }, patience, tick)
	next()
	assert.IsIncreasing(t, tokens)
	assert.Less(t, tokens[len(tokens)-1], int64(1)<<53)
}

func TestLostAndContextBeforeAndAfter(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	released := acquire(t, m, "released", longTTL)
	require.NoError(t, released.Release(t.Context()))
	require.ErrorIs(t, context.Cause(released.Context()), lock.ErrLockNotHeld)
	select {
	case <-released.Lost():
		require.Fail(t, "a released lock is not lost")
	default:
	}
	stolen := acquire(t, m, "stolen", longTTL)
	require.NoError(t, server.Client(t).Set(t.Context(), "cache:lock:{stolen}", "thief", 0).Err())
	require.ErrorIs(t, stolen.Refresh(t.Context()), lock.ErrLockStolen)
	wait(t, stolen.Lost(), "loss asked for afterwards")
	require.ErrorIs(t, context.Cause(stolen.Context()), lock.ErrLockStolen)
}

// TestLossLeavesNoKey: a renewal was executed though nobody heard of it, so the key would outlive the lock by far.
func TestLossLeavesNoKey(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	const ttl = 6 * time.Second
	m := newManager(t, newClient(t, proxy.Addr()))
	admin := server.Client(t)
	left := func() time.Duration { return admin.PTTL(t.Context(), "cache:lock:{job}").Val() }
	l := acquire(t, m, "job", ttl)
	require.Eventually(t, func() bool { return m.GetMetrics().RenewalsTotal > 0 }, patience, tick) // it has a connection
	proxy.SwallowToClient(true)
	require.Eventually(t, func() bool { return left() < ttl-time.Second }, patience, tick)
	require.Eventually(t, func() bool { return left() > ttl-time.Second }, patience, tick, "it is renewed")
	end := time.Now().Add(left())
	proxy.SwallowToServer(true)
	isLost(t, l)
	require.Positive(t, left())
	proxy.SwallowToClient(false)
	proxy.SwallowToServer(false)
	proxy.Cut()
	require.Eventually(t, func() bool { return admin.Exists(t.Context(), "cache:lock:{job}").Val() == 0 }, patience, tick)
	assert.True(t, time.Now().Before(end), "it did not have to expire")
}
