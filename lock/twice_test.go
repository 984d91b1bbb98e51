package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

// TestSameServerTwice: it would count for two, and refuse itself.
func TestSameServerTwice(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 2)
	a, again, b := newClient(t, servers[0].Addr()), newClient(t, servers[0].Addr()), newClient(t, servers[1].Addr())
	otherDB := redis.NewClient(&redis.Options{Addr: servers[0].Addr(), DB: 1})
	t.Cleanup(func() { _ = otherDB.Close() })
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{servers[0].Addr()}})
	t.Cleanup(func() { _ = cluster.Close() })
	for name, nodes := range map[string][]redis.UniversalClient{
		"client": {a, a, a}, "wrapped": {a, b, wrapped{a}}, "address": {a, b, again}, "cluster": {cluster, b, wrapped{cluster}},
	} {
		_, err := lock.NewRedisLockManager(nil, lock.WithNodes(nodes...))
		var argument *lock.ArgumentError
		require.ErrorAs(t, err, &argument, name)
		require.Equal(t, "WithNodes", argument.Argument)
	}
	newManager(t, nil, lock.WithNodes(a, b, otherDB))
	dialers := make([]redis.UniversalClient, 3) // the addresses are those that go-redis fills in
	for i := range dialers {
		c := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{servers[0].Addr()}})
		t.Cleanup(func() { _ = c.Close() })
		dialers[i] = c
	}
	newManager(t, nil, lock.WithNodes(dialers...))
}

// wrapped is a client around another.
type wrapped struct{ redis.UniversalClient }

func (w wrapped) Unwrap() redis.UniversalClient { return w.UniversalClient }

// TestContextsCauseIsNotTheError: the context of a lock whose manager was closed says so, and is used with another manager.
func TestContextsCauseIsNotTheError(t *testing.T) {
	t.Parallel()
	server, m := setup(t)
	ctx := acquire(t, m, "a", longTTL).Context()
	require.NoError(t, m.Close(t.Context()))
	other := newManager(t, newClient(t, server.Addr()))
	held := acquire(t, other, "b", longTTL)
	for name, call := range map[string]func() error{
		"acquire": func() error { _, err := other.Acquire(ctx, "c", longTTL); return err },
		"wait":    func() error { _, err := other.AcquireWait(ctx, "c", longTTL); return err },
		"refresh": func() error { return held.Refresh(ctx) },
		"inspect": func() error { _, err := other.Inspect(ctx, "c"); return err },
	} {
		err := call()
		require.ErrorIs(t, err, context.Canceled, name)
		require.NotErrorIs(t, err, lock.ErrManagerClosed, name)
		require.ErrorContains(t, err, lock.ErrManagerClosed.Error(), name)
	}
	ended, cancel := context.WithTimeoutCause(t.Context(), time.Nanosecond, context.Canceled)
	defer cancel()
	<-ended.Done()
	_, err := other.Acquire(ended, "c", longTTL)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, context.Canceled)
}
