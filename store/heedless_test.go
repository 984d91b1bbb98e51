package store_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// inTime expects that a call returns, and returns its error.
func inTime(t *testing.T, what string, call func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		require.Fail(t, "it has not returned", what)
		return nil
	}
}

// calls are calls of all kinds that go to Redis.
func calls(st *store.State[int], s *store.Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"get":    func(ctx context.Context) error { _, err := st.Get(ctx, "k"); return err },
		"put":    func(ctx context.Context) error { _, err := st.Put(ctx, "k", 1); return err },
		"delete": func(ctx context.Context) error { return st.Delete(ctx, "k") },
		"update": func(ctx context.Context) error {
			_, err := st.Update(ctx, "k", func(*int) error { return nil })
			return err
		},
		"list": func(ctx context.Context) error {
			for _, err := range st.List(ctx, "") {
				return err
			}
			return nil
		},
		"health": s.HealthCheck,
	}
}

// TestListHeedsTheStateTimeout at each of its steps, and its caller's context, though the client heeds neither. Close waits
// for what is left behind.
func TestListHeedsTheStateTimeout(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"scan", "strlen", "get"} {
		server := redistest.Start(t)
		client := newClient(t, server.Addr())
		s, err := store.New(client, store.WithStateTimeout(200*time.Millisecond))
		require.NoError(t, err)
		st := newState[int](t, s)
		put(t, newState[int](t, newStore(t, newClient(t, server.Addr()))), "k", 1)
		release := make(chan struct{})
		client.AddHook(hooked{f: func(name string) {
			if name == command {
				<-release
			}
		}})
		ended, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		require.ErrorIs(t, inTime(t, command, func() error { return calls(st, s)["list"](ended) }), context.Canceled)
		err = inTime(t, command, func() error { return calls(st, s)["list"](t.Context()) })
		if command != "strlen" { // values are read without it
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.NotErrorIs(t, err, context.DeadlineExceeded)
		}
		require.ErrorIs(t, s.Close(timeout(t, 100*time.Millisecond)), context.DeadlineExceeded, command)
		close(release)
		require.NoError(t, s.Close(timeout(t, patience)))
	}
}

// TestCallsReturnThoughTheClientDoesNot: the server hangs after it has been quick, and the client heeds no context, as
// go-redis' own default has it.
func TestCallsReturnThoughTheClientDoesNot(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := redis.NewClient(&redis.Options{Addr: server.Addr(), ReadTimeout: 3 * patience})
	t.Cleanup(func() { _ = c.Close() })
	s := newStore(t, c)
	st := newState[int](t, s)
	put(t, st, "k", 1)
	for range 100 { // and now the caller could make the next call by itself
		get(t, st, "k")
	}
	server.Stop()
	t.Cleanup(server.Continue)
	for name, call := range calls(st, s) {
		ctx := timeout(t, 100*time.Millisecond)
		assert.ErrorIs(t, inTime(t, name, func() error { return call(ctx) }), context.DeadlineExceeded, name)
	}
}

// TestFirstCallsReturnThoughTheClientDoesNot: nobody knows yet which master of a cluster to ask, and none answers.
func TestFirstCallsReturnThoughTheClientDoesNot(t *testing.T) {
	t.Parallel()
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{silent(t)}, ReadTimeout: 3 * patience, MaxRetries: -1})
	s, err := store.New(c, store.WithStateTimeout(200*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close(context.Background())) })
	t.Cleanup(func() { _ = c.Close() }) // which ends what has been left behind
	for name, call := range calls(newState[int](t, s), s) {
		ctx := timeout(t, 50*time.Millisecond)
		assert.ErrorIs(t, inTime(t, name, func() error { return call(ctx) }), context.DeadlineExceeded, name)
		err := inTime(t, name, func() error { return call(t.Context()) })
		assert.ErrorIs(t, err, store.ErrUnavailable, name)
	}
}

// silent returns the address of a server that accepts connections and never answers.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	var conns []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, c)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
		for _, c := range conns {
			_ = c.Close()
		}
	})
	return l.Addr().String()
}
