package store_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// fill writes many values quickly.
func fillWith(t *testing.T, c redis.UniversalClient, count int, value string) {
	t.Helper()
	pipe := c.Pipeline()
	for i := range count {
		pipe.Set(t.Context(), redisKey(fmt.Sprint(i)), "cs1 sj- 5 0 0 00 -\n"+value, 0)
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
}

// TestListNoticesAnotherProcess: a cursor means nothing to it, so that keys would be missing without an error.
func TestListNoticesAnotherProcess(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) (c redis.UniversalClient, change func(key string)){
		"restart": func(t *testing.T) (redis.UniversalClient, func(string)) {
			t.Helper()
			server := redistest.Start(t, redistest.WithPersistence())
			return newClient(t, server.Addr()), func(string) { server.Restart() }
		},
		"failover": func(t *testing.T) (redis.UniversalClient, func(string)) {
			t.Helper()
			sentinel := redistest.StartSentinel(t)
			c := redis.NewFailoverClient(&redis.FailoverOptions{
				MasterName: sentinel.MasterName(), SentinelAddrs: sentinel.Addrs(), ContextTimeoutEnabled: true,
			})
			return c, func(string) { sentinel.Failover(t) }
		},
		"restart in a cluster": func(t *testing.T) (redis.UniversalClient, func(string)) {
			t.Helper()
			cluster := redistest.StartCluster(t, 3, redistest.WithPersistence())
			c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), ContextTimeoutEnabled: true})
			return c, func(key string) { cluster.MasterOf(t, key).Restart() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, change := start(t)
			t.Cleanup(func() { _ = c.Close() })
			st := newState[int](t, newStore(t, c))
			fillWith(t, c, 4000, "1")
			items := 0
			var last error
			for item, err := range st.List(t.Context(), "") {
				if last = err; err != nil {
					break
				}
				if items++; items == 1 {
					key := redisKey(item.Key)
					change(key)
					require.Eventually(t, func() bool { return c.Set(t.Context(), key, "x", 0).Err() == nil }, patience, tick)
				}
			}
			require.ErrorIs(t, last, store.ErrUnavailable)
			assert.Contains(t, last.Error(), "keys may be missing")
			assert.Positive(t, items)
		})
	}
}

// TestListNeedsToKnowTheProcess: a server that refuses to say is an error, which says why.
func TestListNeedsToKnowTheProcess(t *testing.T) {
	t.Parallel()
	server, st := setup[int](t)
	put(t, st, "k", 1)
	c := server.Client(t)
	require.NoError(t, c.Do(t.Context(), "acl", "setuser", "limited", "on", "nopass", "~*", "+@all", "-info").Err())
	limited := redis.NewClient(&redis.Options{Addr: server.Addr(), Username: "limited", Password: "x", ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = limited.Close() })
	for _, err := range newState[int](t, newStore(t, limited)).List(t.Context(), "") {
		require.ErrorIs(t, err, store.ErrUnavailable)
		assert.Contains(t, err.Error(), "keys are missing")
	}
}

// pipes is a hook that sees pipelines with GETs of the keys that List reads.
type pipes struct {
	redistest.Hook

	largest atomic.Int64 // GETs in one
	count   atomic.Int64
	wait    chan struct{} // nil, or what they wait for
}

func (p *pipes) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		gets := int64(0)
		for _, cmd := range cmds {
			if cmd.Name() == "get" && !strings.Contains(fmt.Sprint(cmd.Args()...), "small") {
				gets++
			}
		}
		if gets > 0 {
			p.largest.Store(max(p.largest.Load(), gets))
			p.count.Add(1)
			if p.wait != nil {
				<-p.wait
			}
		}
		return next(ctx, cmds)
	}
}

// TestListReadsSomeMegabytesAtATime: large values a few at a time, and small ones 500.
func TestListReadsSomeMegabytesAtATime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size, values   int
		largest, count int64
	}{{1<<20 - 2, 14, 3, 5}, {1, 400, 400, 1}} {
		server := redistest.Start(t)
		client := newClient(t, server.Addr())
		st := newState[string](t, newStore(t, client))
		fillWith(t, client, c.values, `"`+strings.Repeat("x", c.size)+`"`)
		p := &pipes{}
		client.AddHook(p)
		assert.Len(t, list(t, st, ""), c.values)
		assert.Equal(t, c.largest, p.largest.Load())
		assert.Equal(t, c.count, p.count.Load())
	}
}

// TestListsDoNotHoldUpGets, however many there are and however long they take.
func TestListsDoNotHoldUpGets(t *testing.T) {
	t.Parallel()
	const lists = 8
	server := redistest.Start(t)
	client := newClient(t, server.Addr())
	st := newState[string](t, newStore(t, client))
	put(t, st, "small", "x")
	fillWith(t, client, 10, `"x"`)
	p := &pipes{wait: make(chan struct{})}
	client.AddHook(p)
	var all sync.WaitGroup
	for range lists {
		all.Go(func() {
			for _, err := range st.List(t.Context(), "") {
				assert.NoError(t, err)
			}
		})
	}
	assert.Eventually(t, func() bool { return p.count.Load() == lists }, patience, tick)
	ctx, cancel := context.WithTimeout(t.Context(), patience/2)
	defer cancel()
	_, err := st.Get(ctx, "small")
	assert.NoError(t, err)
	close(p.wait)
	all.Wait()
}

// hooked is a hook that does what it likes before a command.
type hooked struct {
	redistest.Hook

	f func(name string)
}

func (h hooked) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.f(cmd.Name())
		return next(ctx, cmd)
	}
}

func (h hooked) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			h.f(cmd.Name())
		}
		return next(ctx, cmds)
	}
}

// TestPanicsOfHooksReachTheCaller, who can recover.
func TestPanicsOfHooksReachTheCaller(t *testing.T) {
	t.Parallel()
	ping := func(_ *store.State[int], s *store.Store) { _ = s.HealthCheck(t.Context()) }
	lists := func(st *store.State[int], _ *store.Store) {
		for _, err := range st.List(t.Context(), "") {
			assert.NoError(t, err)
		}
	}
	for command, call := range map[string]func(*store.State[int], *store.Store){
		"ping": ping, "scan": lists, "strlen": lists, "get": lists,
	} {
		server := redistest.Start(t)
		client := newClient(t, server.Addr())
		s := newStore(t, client)
		st := newState[int](t, s)
		put(t, st, "k", 1)
		client.AddHook(hooked{f: func(name string) {
			if name == command {
				panic("the hook's own fault")
			}
		}})
		func() {
			defer func() { assert.Contains(t, fmt.Sprint(recover()), "the hook's own fault", command) }()
			call(st, s)
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		require.NoError(t, s.Close(ctx), "nothing is left")
	}
}
