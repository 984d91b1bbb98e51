package batch_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/batch"
	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
)

const patience = 15 * time.Second

// gate holds up commands and pipelines until the test opens it, and counts them.
type gate struct {
	redistest.Hook

	open chan struct{}
	// sent counts round trips.
	sent atomic.Int32
}

func (g *gate) pass() {
	g.sent.Add(1)
	<-g.open
}

func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "incr" { // not what begins a connection
			g.pass()
		}
		return next(ctx, cmd)
	}
}

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "incr" {
			g.pass()
		}
		return next(ctx, cmds)
	}
}

func incr(key string) *redis.IntCmd { return redis.NewIntCmd(context.Background(), "incr", key) }

func TestCallersShareRoundTrips(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	g := &gate{open: make(chan struct{})}
	client.AddHook(g)
	c := batch.NewCommands(client, batch.CommandSettings{Timeout: time.Minute, Parallel: 2})
	var all sync.WaitGroup
	call := func(caller int) {
		all.Go(func() {
			cmd := incr(fmt.Sprint("key ", caller))
			assert.NoError(t, c.Process(t.Context(), "", cmd, 0))
			assert.EqualValues(t, 1, cmd.Val(), "its own reply")
		})
	}
	for caller := range int32(2) {
		call(int(caller))
		require.Eventually(t, func() bool { return g.sent.Load() == caller+1 }, patience, time.Millisecond)
	}
	const more = 100
	for caller := range more {
		call(2 + caller)
	}
	require.Eventually(t, func() bool { return c.Waiting() == more }, patience, time.Millisecond)
	close(g.open)
	all.Wait()
	assert.LessOrEqual(t, g.sent.Load(), int32(4), "two that left at once, and the rest together")
}

func TestEachCallerHasItsOwnError(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	require.NoError(t, client.LPush(t.Context(), "list", "x").Err())
	c := batch.NewCommands(client, batch.CommandSettings{Timeout: time.Minute})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { assert.ErrorContains(t, c.Process(t.Context(), "list", incr("list"), 0), "WRONGTYPE") })
		all.Go(func() { assert.NoError(t, c.Process(t.Context(), "n", incr("n"), 0)) })
	}
	all.Wait()
	assert.Equal(t, "50", client.Get(t.Context(), "n").Val())
}

// A command whose reply was lost may have been executed, so nobody sends it again unasked.
func TestALostReplyIsNotRepeated(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ContextTimeoutEnabled: true, MaxRetries: 3})
	t.Cleanup(func() { _ = client.Close() })
	admin := server.Client(t)
	g := &gate{open: make(chan struct{})}
	client.AddHook(g)
	c := batch.NewCommands(client, batch.CommandSettings{Timeout: time.Minute, Parallel: 1})
	// The first goes alone, the others in one pipeline.
	var all sync.WaitGroup
	errs := make([]error, 5)
	for i := range errs {
		all.Go(func() { errs[i] = c.Process(t.Context(), "n", incr("n"), 0) })
		require.Eventually(t, func() bool { return g.sent.Load() == 1 && c.Waiting() == i }, patience, time.Millisecond)
	}
	proxy.DropReplies(2)
	close(g.open)
	all.Wait()
	for _, err := range errs {
		require.Error(t, err)
	}
	assert.Equal(t, "5", admin.Get(t.Context(), "n").Val())
}

func TestCallerThatGivesUp(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	g := &gate{open: make(chan struct{})}
	client.AddHook(g)
	c := batch.NewCommands(client, batch.CommandSettings{Timeout: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- c.Process(ctx, "n", incr("n"), 0) }()
	require.Eventually(t, func() bool { return g.sent.Load() == 1 }, patience, time.Millisecond)
	cancel()
	var abandoned *batch.AbandonedError
	err := <-result
	require.ErrorAs(t, err, &abandoned)
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, abandoned.Sent)
	close(g.open)
	require.Eventually(t, func() bool { return client.Get(t.Context(), "n").Val() == "1" }, patience, time.Millisecond)

	require.ErrorAs(t, c.Process(ctx, "n", incr("n"), 0), &abandoned)
	require.False(t, abandoned.Sent)
	assert.Equal(t, "1", client.Get(t.Context(), "n").Val())
}

// keysOn returns a key on each node of a cluster.
func keysOn(t *testing.T, client *redis.ClusterClient, nodes []*redistest.Server) []string {
	t.Helper()
	keys := make([]string, len(nodes))
	found := 0
	for i := 0; found < len(nodes); i++ {
		key := fmt.Sprint("key ", i)
		master, err := client.MasterForKey(t.Context(), key)
		require.NoError(t, err)
		for n, node := range nodes {
			if node.Addr() == master.Options().Addr && keys[n] == "" {
				keys[n] = key
				found++
			}
		}
	}
	return keys
}

func newCluster(t *testing.T) (*redis.ClusterClient, []*redistest.Server) {
	t.Helper()
	cluster := redistest.StartCluster(t, 3)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), ContextTimeoutEnabled: true, ReadTimeout: time.Hour})
	t.Cleanup(func() { _ = client.Close() })
	return client, cluster.Nodes()
}

// TestAHungMasterHoldsUpNobodyElse: all its pipelines are busy, with callers waiting for another one, and yet commands for
// the other masters leave at once.
func TestAHungMasterHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	client, nodes := newCluster(t)
	keys := keysOn(t, client, nodes)
	c := batch.NewCommands(client, batch.CommandSettings{Timeout: time.Minute})
	for _, key := range keys {
		require.NoError(t, c.Process(t.Context(), key, incr(key), 0))
	}
	nodes[0].Stop()
	ctx, leave := context.WithCancel(t.Context())
	var stuck sync.WaitGroup
	require.Eventually(t, func() bool { // another caller each time, until all pipelines are busy
		stuck.Go(func() { assert.ErrorIs(t, c.Process(ctx, keys[0], incr(keys[0]), 0), context.Canceled) })
		return c.Waiting() > 5
	}, patience, time.Millisecond)
	for range 10 {
		for _, key := range keys[1:] {
			require.NoError(t, c.Process(t.Context(), key, incr(key), 0))
		}
	}
	require.Positive(t, c.Waiting(), "the others still wait")
	leave()
	stuck.Wait()
	nodes[0].Continue()
	require.NoError(t, c.Process(t.Context(), keys[0], incr(keys[0]), 0))
}

func TestPipelineSendsALongList(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	const count = 1234
	list := make([]batch.Keyed, count)
	cmds := make([]*redis.IntCmd, count)
	for i := range list {
		key := fmt.Sprint("key ", i)
		cmds[i] = redis.NewIntCmd(t.Context(), "incrby", key, i)
		list[i] = batch.Keyed{Key: key, Cmd: cmds[i]}
	}
	var sizes []int
	batch.Pipeline(t.Context(), server.Client(t), nil, list, func(indexes []int) {
		sizes = append(sizes, len(indexes))
		for _, i := range indexes {
			assert.NoError(t, cmds[i].Err())
			assert.EqualValues(t, i, cmds[i].Val())
		}
	})
	assert.Equal(t, []int{500, 500, 234}, sizes)
}

func TestPipelineWaitsForNoHungMaster(t *testing.T) {
	t.Parallel()
	client, nodes := newCluster(t)
	keys := keysOn(t, client, nodes)
	var list []batch.Keyed
	for _, key := range keys {
		cmd := incr(key)
		require.NoError(t, client.Process(t.Context(), cmd))
		list = append(list, batch.Keyed{Key: key, Cmd: incr(key)})
	}
	nodes[1].Stop()
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan int, len(list))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		batch.Pipeline(ctx, client, nil, list, func(indexes []int) {
			for _, i := range indexes {
				answered <- i
			}
		})
	}()
	assert.ElementsMatch(t, []int{0, 2}, []int{<-answered, <-answered})
	cancel()
	<-ended
	assert.Empty(t, answered, "the hung master's is left alone")
	nodes[1].Continue()
}

// Addresses that went away are forgotten, but no queue that is in use: its callers and later
// ones would exceed the limit of pipelines to the server.
func TestQueuesInUseAreKept(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	g := &gate{open: make(chan struct{})}
	client.AddHook(g)
	c := batch.NewCommands(client, batch.CommandSettings{Timeout: time.Minute})
	var all sync.WaitGroup
	all.Go(func() { assert.NoError(t, c.Process(t.Context(), "n", incr("n"), 0)) })
	require.Eventually(t, func() bool { return g.sent.Load() == 1 }, patience, time.Millisecond)
	for i := range batch.MaxQueues {
		require.False(t, c.HasQueue(fmt.Sprint("address ", i)))
	}
	require.True(t, c.HasQueue(""), "it is in use")
	require.False(t, c.HasQueue("address 0"), "it is not")
	close(g.open)
	all.Wait()
}
