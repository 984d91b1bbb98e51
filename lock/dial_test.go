package lock_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// silentNet is a network that drops what asks for a new connection while it is silent. Those that are open work.
type silentNet struct {
	silent  atomic.Bool
	waiting atomic.Int64 // for a connection
	over    <-chan struct{}
}

// newSilentNet returns a network that is not silent yet. What waits for a connection ends with the test, as go-redis opens
// some in the background.
func newSilentNet(t *testing.T) *silentNet {
	t.Helper()
	return &silentNet{over: t.Context().Done()}
}

func (n *silentNet) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if !n.silent.Load() {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	n.waiting.Add(1)
	defer n.waiting.Add(-1)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-n.over:
		return nil, net.ErrClosed
	}
}

// server returns a client of a server of its own.
func (n *silentNet) server(t *testing.T) redis.UniversalClient {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: redistest.Start(t).Addr(), Dialer: n.dial, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// cluster returns a client of a cluster.
func (n *silentNet) cluster(t *testing.T, cluster *redistest.Cluster) *redis.ClusterClient {
	t.Helper()
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), Dialer: n.dial, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestNoConnectionCanBeOpened: those of the application are open, and locks are renewed on them.
func TestNoConnectionCanBeOpened(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T, n *silentNet) []redis.UniversalClient{
		"server": func(t *testing.T, n *silentNet) []redis.UniversalClient { //nolint:thelper // there is nothing to fail
			return []redis.UniversalClient{n.server(t)}
		},
		"three masters": func(t *testing.T, n *silentNet) []redis.UniversalClient { //nolint:thelper // the same
			return []redis.UniversalClient{n.server(t), n.server(t), n.server(t)}
		},
		"cluster": func(t *testing.T, n *silentNet) []redis.UniversalClient { //nolint:thelper // the same
			return []redis.UniversalClient{n.cluster(t, redistest.StartCluster(t, 3))}
		},
		"cluster whose client has a hook": func(t *testing.T, n *silentNet) []redis.UniversalClient { //nolint:thelper // the same
			c, hook := n.cluster(t, redistest.StartCluster(t, 3)), prefixing{"tenant:"}
			c.AddHook(hook)
			return []redis.UniversalClient{routed{c, hook}}
		},
	} {
		for _, count := range []int{1, 20} {
			t.Run(name+" "+itoa(int64(count)), func(t *testing.T) {
				t.Parallel()
				n := newSilentNet(t)
				m := managerOn(t, start(t, n))
				const ttl = 5 * time.Second
				locks := acquireMany(t, m, count, ttl)
				n.silent.Store(true)
				outlive(t, ttl, locks...)
				assert.Positive(t, n.waiting.Load())
			})
		}
	}
}

// prefixing is a hook that changes the keys of scripts.
type prefixing struct{ prefix string }

func (p prefixing) change(cmd redis.Cmder) {
	args := cmd.Args()
	if !strings.HasPrefix(cmd.Name(), "eval") {
		return
	}
	count, _ := args[2].(int)
	for i := range count {
		if key, _ := args[3+i].(string); !strings.HasPrefix(key, p.prefix) { // unless it was sent before
			args[3+i] = p.prefix + key
		}
	}
}

func (prefixing) DialHook(next redis.DialHook) redis.DialHook { return next }

func (p prefixing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		p.change(cmd)
		return next(ctx, cmd)
	}
}

func (p prefixing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			p.change(cmd)
		}
		return next(ctx, cmds)
	}
}

// TestSlotMovesWhereNoConnectionCanBeOpened: the application has connections to all masters, also for pipelines, as which
// go-redis follows what is on the move.
func TestSlotMovesWhereNoConnectionCanBeOpened(t *testing.T) {
	t.Parallel()
	cluster, n := redistest.StartCluster(t, 3), newSilentNet(t)
	c := n.cluster(t, cluster)
	set := func(c redis.Cmdable) {
		for i := range 20 {
			_ = c.Set(t.Context(), "key "+itoa(int64(i)), 0, 0)
		}
	}
	set(c)
	_, err := c.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
		set(pipe)
		return nil
	})
	require.NoError(t, err)
	const key = "cache:lock:{job}"
	l := acquire(t, newManager(t, c), "job", 12*time.Second) // a repetition that finds the only connection in use fails, too
	n.silent.Store(true)
	renewed := func() { require.True(t, extended(t, l)) }
	renewed()
	cluster.MoveSlot(t, key, another(t, cluster, key), renewed)
	renewed()
}

// TestCloseEndsTheOpeningOfAConnection: go-redis opens it in the background, for as long as DialTimeout says.
func TestCloseEndsTheOpeningOfAConnection(t *testing.T) {
	t.Parallel()
	n := newSilentNet(t)
	c := redis.NewClient(&redis.Options{
		Addr: redistest.Start(t).Addr(), Dialer: n.dial, DialTimeout: time.Hour, ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() { _ = c.Close() })
	m := newManager(t, c)
	acquire(t, m, "job", time.Second)
	n.silent.Store(true)
	require.Eventually(t, func() bool { return n.waiting.Load() > 0 }, patience, tick)
	require.NoError(t, m.Close(t.Context()))
	require.Eventually(t, func() bool { return n.waiting.Load() == 0 }, patience, tick)
}
