package lock

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

const crowd = 64

// crowdTest is a manager whose callers wait for a connection until the test lets them.
type crowdTest struct {
	redistest.Hook

	server  *redistest.Server
	manager *RedisLockManager
	client  *redis.Client
	only    *redis.Conn  // the one connection that its client may have for single commands
	gate    sync.RWMutex // held to keep pipelines, which have connections of their own, from leaving
	all     sync.WaitGroup
}

func (c *crowdTest) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if strings.HasPrefix(cmds[0].Name(), "eval") { // not those that begin a connection
			c.gate.RLock()
			defer c.gate.RUnlock()
		}
		return next(ctx, cmds)
	}
}

// gather starts a manager and takes the connection away from it.
func gather(t *testing.T, server *redistest.Server, change func(*redis.Options)) *crowdTest {
	t.Helper()
	o := server.Options()
	o.PoolSize, o.PoolTimeout, o.ContextTimeoutEnabled = 1, time.Hour, true
	if change != nil {
		change(o)
	}
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	m, err := NewRedisLockManager(client, WithNodeTimeout(time.Hour))
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = m.Close(ctx)
	})
	c := &crowdTest{server: server, manager: m, client: client}
	client.AddHook(c)
	c.hold(t)
	return c
}

// hold keeps the manager from sending, once more after each has let it.
func (c *crowdTest) hold(t *testing.T) {
	t.Helper()
	c.gate.Lock()
	c.only = c.client.Conn()
	require.NoError(t, c.only.Ping(t.Context()).Err())
}

// let makes good what hold has done.
func (c *crowdTest) let(t *testing.T) {
	t.Helper()
	require.NoError(t, c.only.Close())
	c.gate.Unlock()
}

// each lets as many callers do something, at the same time.
func (c *crowdTest) each(t *testing.T, do func(caller int)) {
	t.Helper()
	b := &c.manager.nodes[0].batches
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.near = false       // or some would call by themselves, and give up after a moment
		return b.flying == 0 // a flight that has not quite ended would make it near again
	}, time.Minute, time.Millisecond)
	for caller := range crowd {
		c.all.Go(func() { do(caller) })
	}
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		aboard := 0
		for range b.rides {
			aboard++
		}
		return aboard == crowd
	}, time.Minute, time.Millisecond)
	c.server.ResetCommands(t)
	c.let(t)
	c.all.Wait()
}

// commands returns how many commands were sent, and what the scripts did.
func (c *crowdTest) commands(t *testing.T) (sent int64, done map[string]int64) {
	t.Helper()
	done = c.server.Commands(t)
	sent = done["evalsha"] + done["eval"]
	return sent, done
}

// fewCommands is what the crowd may send at most: one for each pipeline that was under way before all had come, one for
// the rest together, and a few to clean up.
const fewCommands = crowd / 2

func job(caller int) string { return "job " + strconv.Itoa(caller) }

// TestCrowdAcquiresTogether: in one run of a script, of which each gets its own result.
func TestCrowdAcquiresTogether(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	direct := server.Client(t)
	const held, broken = 7, 11
	require.NoError(t, direct.Set(t.Context(), "cache:lock:{"+job(held)+"}", "other", time.Hour).Err())
	require.NoError(t, direct.LPush(t.Context(), "cache:lock:{"+job(broken)+"}:fence", "x").Err())
	c := gather(t, server, nil)
	locks, failures := make([]Lock, crowd), make([]error, crowd)
	c.each(t, func(caller int) {
		locks[caller], failures[caller] = c.manager.Acquire(context.Background(), job(caller), time.Hour)
	})
	sent, done := c.commands(t)
	assert.LessOrEqual(t, sent, int64(fewCommands))
	assert.Equal(t, int64(crowd), done["set"]-(done["incr"]-1), "SET for each, and for each new fence")
	for caller, err := range failures {
		switch caller {
		case held:
			var refused *NotAcquiredError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, job(caller), refused.Resource)
			assert.Greater(t, refused.RetryAfter, 59*time.Minute)
		case broken:
			require.ErrorIs(t, err, ErrRedis)
			require.ErrorContains(t, err, "WRONGTYPE")
		default:
			require.NoError(t, err)
			value, err := direct.Get(t.Context(), "cache:lock:{"+job(caller)+"}").Result()
			require.NoError(t, err)
			l, ok := locks[caller].(*RedisLock)
			require.True(t, ok)
			assert.Equal(t, l.value, value)
			fence, err := direct.Get(t.Context(), "cache:lock:{"+job(caller)+"}:fence").Int64()
			require.NoError(t, err)
			assert.Equal(t, fence, l.Token())
			assert.Greater(t, direct.PTTL(t.Context(), "cache:lock:{"+job(caller)+"}").Val(), 59*time.Minute)
			assert.Greater(t, direct.PTTL(t.Context(), "cache:lock:{"+job(caller)+"}:fence").Val(), 23*time.Hour)
		}
	}
	assert.Zero(t, direct.Exists(t.Context(), "cache:lock:{"+job(broken)+"}").Val())
}

// TestCrowdReleasesTogether: those whose lock somebody waits for hand it over in the same round trip.
func TestCrowdReleasesTogether(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := gather(t, server, nil)
	locks := make([]Lock, crowd)
	c.each(t, func(caller int) {
		l, err := c.manager.Acquire(context.Background(), job(caller), time.Hour)
		assert.NoError(t, err)
		locks[caller] = l
	})
	const waited, stolen, gone, broken, confused = 5, 6, 7, 8, 9
	direct := server.Client(t)
	other := gather(t, server, func(o *redis.Options) { o.PoolSize = 10 })
	other.let(t)
	heir := make(chan *RedisLock, 1)
	go func() {
		l, err := other.manager.AcquireWait(context.Background(), job(waited), time.Hour)
		assert.NoError(t, err)
		heir <- l
	}()
	require.Eventually(t, func() bool {
		return direct.ZCard(t.Context(), "cache:lock:{"+job(waited)+"}:queue").Val() == 1
	}, time.Minute, time.Millisecond)
	require.NoError(t, direct.Set(t.Context(), "cache:lock:{"+job(stolen)+"}", "other", 0).Err())
	require.NoError(t, direct.Del(t.Context(), "cache:lock:{"+job(gone)+"}").Err())
	require.NoError(t, direct.Del(t.Context(), "cache:lock:{"+job(broken)+"}").Err())
	require.NoError(t, direct.LPush(t.Context(), "cache:lock:{"+job(broken)+"}", "x").Err())
	// Somebody seems to wait, in what is no queue.
	require.NoError(t, direct.Append(t.Context(), "cache:lock:{"+job(confused)+"}", "+").Err())
	require.NoError(t, direct.LPush(t.Context(), "cache:lock:{"+job(confused)+"}:queue", "x").Err())

	c.hold(t)
	failures := make([]error, crowd)
	c.each(t, func(caller int) { failures[caller] = locks[caller].Release(context.Background()) })
	sent, _ := c.commands(t)
	assert.LessOrEqual(t, sent, int64(fewCommands))
	for caller, err := range failures {
		switch caller {
		case stolen:
			require.ErrorIs(t, err, ErrLockStolen)
		case gone:
			require.ErrorIs(t, err, ErrLockExpired)
		case broken, confused:
			require.ErrorIs(t, err, ErrRedis)
			require.ErrorContains(t, err, "WRONGTYPE")
		default:
			require.NoError(t, err, caller)
		}
	}
	assert.Equal(t, int64(1), c.manager.GetMetrics().HandOffs)
	l := <-heir
	former, ok := locks[waited].(*RedisLock)
	require.True(t, ok)
	assert.Greater(t, l.Token(), former.Token())
	require.NoError(t, l.Release(t.Context()))
	left, err := direct.Keys(t.Context(), "cache:lock:{*}").Result()
	require.NoError(t, err)
	assert.Len(t, left, 3, "stolen, broken, confused")
	require.NoError(t, direct.Del(t.Context(), left...).Err()) // or the manager would try again until its end
}

// TestOneOfACrowdIsNotAllowed: a command for all of them is refused, and none of them suffers for another.
func TestOneOfACrowdIsNotAllowed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	direct := server.Client(t)
	require.NoError(t, direct.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">pw", "+@all", "&*", "~cache:lock:{job*").Err())
	c := gather(t, server, func(o *redis.Options) { o.Username, o.Password = "app", "pw" })
	failures := make([]error, crowd)
	const forbidden = 3
	c.each(t, func(caller int) {
		resource := job(caller)
		if caller == forbidden {
			resource = "something else"
		}
		_, failures[caller] = c.manager.Acquire(context.Background(), resource, time.Hour)
	})
	for caller, err := range failures {
		if caller != forbidden {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, ErrRedis)
		require.ErrorContains(t, err, "NOPERM")
	}
}

// TestFailureOfOneInARun: what only a refusal needs is not allowed, which is nothing to those who are not refused.
func TestFailureOfOneInARun(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	direct := server.Client(t)
	require.NoError(t, direct.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">pw", "+@all", "-pttl", "&*", "~*").Err())
	const held = 3
	require.NoError(t, direct.Set(t.Context(), "cache:lock:{"+job(held)+"}", "other", time.Hour).Err())
	c := gather(t, server, func(o *redis.Options) { o.Username, o.Password = "app", "pw" })
	failures := make([]error, crowd)
	c.each(t, func(caller int) {
		_, failures[caller] = c.manager.Acquire(context.Background(), job(caller), time.Hour)
	})
	for caller, err := range failures {
		if caller != held {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, ErrRedis)
	}
}

// TestErrorsDoNotShiftReplies: go-redis stops reading a list at an error that it has a type for, such as OOM, and takes what
// follows for the replies to other commands.
func TestErrorsDoNotShiftReplies(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	direct := server.Client(t)
	c := gather(t, server, nil)
	locks := make([]Lock, crowd)
	c.each(t, func(caller int) {
		l, err := c.manager.Acquire(context.Background(), job(caller), time.Hour)
		assert.NoError(t, err)
		locks[caller] = l
	})
	require.NoError(t, direct.ConfigSet(t.Context(), "maxmemory", "1").Err())
	c.hold(t)
	failures := make([]error, crowd)
	c.each(t, func(caller int) {
		if caller%2 == 0 {
			_, failures[caller] = c.manager.Acquire(context.Background(), "another "+job(caller), time.Hour)
		} else {
			failures[caller] = locks[caller].Release(context.Background())
		}
	})
	for caller, err := range failures {
		if caller%2 == 0 {
			require.ErrorIs(t, err, ErrRedis)
			require.ErrorContains(t, err, "OOM")
		} else {
			require.NoError(t, err, "releasing takes no memory")
		}
	}
	assert.Equal(t, int64(crowd/2), direct.DBSize(t.Context()).Val()-int64(crowd), "half of the locks, and all fences")
	require.NoError(t, direct.ConfigSet(t.Context(), "maxmemory", "0").Err())
}

// TestCrowdMeetsAServerThatHasForgotten: the scripts are sent again.
func TestCrowdMeetsAServerThatHasForgotten(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := gather(t, server, nil)
	for range 3 {
		c.each(t, func(caller int) {
			l, err := c.manager.Acquire(context.Background(), job(caller), time.Hour)
			if assert.NoError(t, err) {
				assert.NoError(t, l.Release(context.Background()))
			}
		})
		require.NoError(t, server.Client(t).ScriptFlush(t.Context()).Err())
		c.hold(t)
	}
	c.let(t)
	assert.Zero(t, c.manager.GetMetrics().ReleasesFailed)
}

// TestCrowdMeetsAClusterUnawares: the server is a cluster of which the client knows nothing, as behind a proxy. One run
// cannot have keys of several slots, which is found out once.
func TestCrowdMeetsAClusterUnawares(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 1)
	server := cluster.MasterOf(t, "any") // it has all slots
	c := gather(t, server, nil)
	acquire := func(caller int) {
		l, err := c.manager.Acquire(context.Background(), job(caller), time.Hour)
		if assert.NoError(t, err) {
			assert.NoError(t, l.Release(context.Background()))
		}
	}
	c.each(t, acquire)
	refusals := func() string { return server.Client(t).Info(t.Context(), "errorstats").Val() }
	require.Contains(t, refusals(), "CROSSSLOT")
	server.ResetCommands(t)
	for caller := range crowd {
		c.all.Go(func() { acquire(caller) })
	}
	c.all.Wait()
	assert.NotContains(t, refusals(), "CROSSSLOT", "it is known by now, and nothing is sent in vain")
}

func TestJoinKeepsTheOrder(t *testing.T) {
	t.Parallel()
	s := newScripts(false, time.Second, true, "inbox").acquire
	calls := []call{newCall(s, 2, "a", "a:fence", "v", 1), newCall(s, 2, "b", "b:fence", "w", 2)}
	require.Equal(t, 2, together(calls))
	require.Equal(t, []any{"evalsha", s.many.hash, 4, "a", "a:fence", "b", "b:fence", "v", 1, "w", 2}, join(calls).args)

	repeated := calls[1].repetition()
	require.Equal(t, 1, together([]call{calls[0], repeated}), "one that is out of the ordinary goes alone")
	require.Equal(t, 1, together([]call{repeated, calls[0]}))
	release := newCall(newScripts(false, time.Second, true, "inbox").release, 4, "a", "a:fence", "a:queue", "a:seen", "v")
	require.Equal(t, 1, together([]call{calls[0], release}), "another script")
	require.Equal(t, runSize, together(repeat(calls[0], 2*runSize)))
}

func repeat(c call, count int) []call {
	calls := make([]call, count)
	for i := range calls {
		calls[i] = c
	}
	return calls
}
