package notification_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// switched returns a client whose connections go to whatever address is current when they are made.
func switched(t *testing.T, addr string) (*redis.Client, *atomic.Pointer[string]) {
	t.Helper()
	client, target := newSwitched(addr)
	t.Cleanup(func() { _ = client.Close() })
	return client, target
}

// newSwitched is switched for a client that somebody else closes.
func newSwitched(addr string) (*redis.Client, *atomic.Pointer[string]) {
	var target atomic.Pointer[string]
	target.Store(&addr)
	client := redis.NewClient(&redis.Options{
		Addr: addr,
		Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, *target.Load())
		},
	})
	return client, &target
}

func TestFailoverThatLosesTheTail(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		listening bool // the subscriber still got the tail from the old master
		reason    notification.GapReason
		missing   int
	}{
		"seen by the subscriber":   {true, notification.GapRolledBack, 0},
		"missed by the subscriber": {false, notification.GapFailover, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, after := redistest.Start(t), redistest.Start(t)
			toBefore, toAfter := before.Client(t), after.Client(t)
			require.NoError(t, toAfter.Do(t.Context(), "replicaof", before.Host(), before.Port()).Err())
			client, target := switched(t, before.Addr())
			n, outside := newSystem(t, client), newSystem(t, toBefore)
			r := record(t, subscribe(t, n, "k"))
			p := &publisher{system: outside}
			require.Zero(t, p.publish(t.Context(), "k", 100))
			require.EqualValues(t, 1, toBefore.Wait(t.Context(), 1, patience).Val())
			// The old master's epoch is known to the system only if the replica was there when it connected.
			reconnect := func() {
				was := n.GetMetrics().Reconnects
				require.NoError(t, toBefore.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
				require.Eventually(t, func() bool { return n.GetMetrics().Reconnects > was }, patience, time.Millisecond)
				require.Zero(t, p.publish(t.Context(), "k", 1))
				r.reached(t, p.last)
			}
			reconnect()
			told := len(r.gaps())
			require.EqualValues(t, 1, toBefore.Wait(t.Context(), 1, patience).Val())
			require.NoError(t, toAfter.Do(t.Context(), "replicaof", "no", "one").Err())

			// From here on the two histories differ.
			addr := after.Addr()
			if test.listening {
				require.Zero(t, p.publish(t.Context(), "k", 10))
				r.reached(t, p.last)
				target.Store(&addr)
				require.NoError(t, toBefore.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
			} else {
				require.NoError(t, toBefore.Do(t.Context(), "config", "set", "maxclients", "2").Err())
				target.Store(&addr)
				// All connections to the old master, or the recovery would still read from there.
				require.NoError(t, toBefore.Do(t.Context(), "client", "kill", "type", "normal").Err())
				require.NoError(t, toBefore.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
				require.Zero(t, p.publish(t.Context(), "k", 10))
			}
			before.Kill()
			p.system = newSystem(t, toAfter)
			require.Zero(t, p.publish(t.Context(), "k", 100))
			r.reached(t, p.last)
			assert.Equal(t, test.missing, r.verify(t, p.sent))
			assert.Equal(t, []notification.GapReason{test.reason}, r.gaps()[told:])
		})
	}
}

// The old master becomes a replica, takes all data from the new one, and keeps its connections. Its replication history
// looks as if it had only got another name.
func TestMasterThatBecomesAReplica(t *testing.T) {
	t.Parallel()
	before, after := redistest.Start(t), redistest.Start(t)
	toBefore, toAfter := before.Client(t), after.Client(t)
	require.NoError(t, toAfter.Do(t.Context(), "replicaof", before.Host(), before.Port()).Err())
	require.NoError(t, toBefore.Set(t.Context(), "k", "v", 0).Err())
	require.EqualValues(t, 1, toBefore.Wait(t.Context(), 1, patience).Val())
	n := newSystem(t, toBefore, notification.WithHeartbeat(500*time.Millisecond))
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 5))
	r.reached(t, p.last)
	require.EqualValues(t, 1, toBefore.Wait(t.Context(), 1, patience).Val())

	require.NoError(t, toAfter.Do(t.Context(), "replicaof", "no", "one").Err())
	require.NoError(t, toBefore.Set(t.Context(), "diverged", "", 0).Err()) // so that all data has to be copied
	p.system = newSystem(t, toAfter)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	require.NoError(t, toBefore.Do(t.Context(), "replicaof", after.Host(), after.Port()).Err())
	assert.Equal(t, notification.GapFailover, told(t, r.sub).Reason)
	require.Zero(t, p.publish(t.Context(), "k", 5))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
}

// The old master is still there after a failover, and connections of the pool still go to it, when the subscribing one is
// made to the new master. What the old one has taken since is lost, and reported before anything of the new one's.
func TestRecoveryReadsWhereItListens(t *testing.T) {
	t.Parallel()
	before, after := redistest.Start(t), redistest.Start(t)
	toBefore, toAfter := before.Client(t), after.Client(t)
	require.NoError(t, toAfter.Do(t.Context(), "replicaof", before.Host(), before.Port()).Err())
	old, p := newSystem(t, toBefore), &publisher{system: newSystem(t, toBefore)}
	require.NoError(t, old.Publish(t.Context(), "k", numbered{}))
	require.EqualValues(t, 1, toBefore.Wait(t.Context(), 1, patience).Val())
	client, target := switched(t, before.Addr())
	stale(t, client)
	// No heartbeat may come in time to tell.
	n := newSystem(t, client, notification.WithHeartbeat(time.Hour), notification.WithBufferSize(4))
	r, slow := record(t, subscribe(t, n, "k*")), subscribe(t, n, "k")
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)
	require.EqualValues(t, 1, toBefore.Wait(t.Context(), 1, patience).Val())

	require.NoError(t, toAfter.Do(t.Context(), "replicaof", "no", "one").Err())
	oldAddr, newAddr := before.Addr(), after.Addr()
	target.Store(&newAddr)
	require.NoError(t, toBefore.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
	require.Eventually(t, func() bool {
		return len(pubsubClients(t, toAfter)) == 1 && n.HealthCheck(t.Context()) == nil
	}, patience, time.Millisecond)
	require.Zero(t, p.publish(t.Context(), "k", 10)) // still on the old master
	p.system = newSystem(t, toAfter)
	require.Zero(t, p.publish(t.Context(), "k", 100))
	r.reached(t, p.last)
	assert.Equal(t, 10, r.verify(t, p.sent))
	assert.Equal(t, []notification.GapReason{notification.GapFailover}, r.gaps())

	// One that is behind reads there too, whatever the pool comes up with.
	target.Store(&oldAddr)
	stale(t, client)
	target.Store(&newAddr)
	require.NoError(t, old.Publish(t.Context(), "k", numbered{p.last + 1}))
	late := record(t, slow)
	late.reached(t, p.last)
	assert.Equal(t, 10, late.verify(t, p.sent))
	assert.Equal(t, []notification.GapReason{notification.GapFailover}, late.gaps())
}

// apart is a client whose subscriptions go to another server than its commands, as behind some proxies.
type apart struct {
	redis.UniversalClient
	subscriptions atomic.Pointer[redis.Client]
}

func newApart(commands, subscriptions *redis.Client) *apart {
	c := &apart{UniversalClient: commands}
	c.subscriptions.Store(subscriptions)
	return c
}

func (c *apart) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return c.subscriptions.Load().Subscribe(ctx, channels...)
}

// Where Redis does not tell which server a connection is on, that is no reason not to deliver.
func TestServerThatCannotBeTold(t *testing.T) {
	t.Parallel()
	for name, connect := range map[string]func(t *testing.T, server *redistest.Server) redis.UniversalClient{
		"listening to a replica": func(t *testing.T, server *redistest.Server) redis.UniversalClient {
			t.Helper()
			replica := redistest.Start(t).Client(t)
			require.NoError(t, replica.Do(t.Context(), "replicaof", server.Host(), server.Port()).Err())
			client := server.Client(t)
			require.NoError(t, client.Set(t.Context(), "x", "", 0).Err())
			require.EqualValues(t, 1, client.Wait(t.Context(), 1, patience).Val())
			return newApart(client, replica)
		},
		"without permission to ask": func(t *testing.T, server *redistest.Server) redis.UniversalClient {
			t.Helper()
			client := server.Client(t)
			require.NoError(t, client.Do(t.Context(), "acl", "setuser", "default", "-pubsub").Err())
			return client
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			n := newSystem(t, connect(t, server), notification.WithHeartbeat(500*time.Millisecond), notification.WithPingTimeout(patience))
			r := record(t, subscribe(t, n, "k"))
			p := &publisher{system: n}
			require.Zero(t, p.publish(t.Context(), "k", 10))
			beats := calls(t, server.Client(t), "xlen")
			require.Eventually(t, func() bool { return calls(t, server.Client(t), "xlen") > beats+4 }, patience, time.Millisecond)
			require.Zero(t, p.publish(t.Context(), "k", 10))
			r.reached(t, p.last)
			assert.Zero(t, r.verify(t, p.sent))
			assert.Empty(t, r.gaps())
			assert.Zero(t, n.GetMetrics().Reconnects)
		})
	}
}

// The subscribing connection may be the one that led to the wrong server, which sends more than waits for a recovery.
func TestConnectionToTheWrongServer(t *testing.T) {
	t.Parallel()
	right, wrong := redistest.Start(t).Client(t), redistest.Start(t).Client(t)
	client := newApart(right, right)
	n := newSystem(t, client, notification.WithHeartbeat(500*time.Millisecond))
	r := record(t, subscribe(t, n, "k"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 10))
	r.reached(t, p.last)

	client.subscriptions.Store(wrong)
	require.NoError(t, right.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
	require.Eventually(t, func() bool {
		return wrong.PubSubNumSub(t.Context(), "k").Val()["k"] == 1
	}, patience, time.Millisecond)
	require.Zero(t, p.publish(t.Context(), "k", 10))
	for range 50 {
		_, err := wrong.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
			for range 100 {
				pipe.Publish(t.Context(), "k", "of the wrong server")
			}
			return nil
		})
		require.NoError(t, err)
	}
	client.subscriptions.Store(right)
	p.arrived(t, r)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
}

// elsewhere answers the first scripts that a client sends as two nodes of a cluster do which point at each other.
type elsewhere struct {
	redistest.Hook

	left atomic.Int32
}

func (h *elsewhere) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "multi" && h.left.Add(-1) >= 0 {
			err := moved("MOVED 1 127.0.0.1:1")
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		return next(ctx, cmds)
	}
}

type moved string

func (m moved) Error() string { return string(m) }

func (moved) RedisError() {}

// A recovery that is sent to and fro is not given up.
func TestRecoveryThatIsSentElsewhere(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := through(t, server)
	hook := &elsewhere{}
	n := newSystem(t, withHook(client, hook))
	r, p := record(t, subscribe(t, n, "k")), &publisher{system: newSystem(t, server.Client(t))}
	require.Zero(t, p.publish(t.Context(), "k", 5))
	r.reached(t, p.last)
	proxy.Refuse(true)
	proxy.Cut()
	require.Zero(t, p.publish(t.Context(), "k", 5))
	hook.left.Store(3)
	proxy.Refuse(false)
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
	assert.Negative(t, hook.left.Load())
}

// stale fills the pool of a client with connections to where it connects at present.
func stale(t *testing.T, client *redis.Client) {
	t.Helper()
	var conns []*redis.Conn
	for range 10 {
		c := client.Conn()
		require.NoError(t, c.Ping(t.Context()).Err())
		conns = append(conns, c)
	}
	for _, c := range conns {
		require.NoError(t, c.Close())
	}
}

// traffic publishes until it is stopped, taking its time over failures. It waits until one event was published, and
// stopping it waits for another one: whatever happens in between does so while events are published.
func (p *publisher) traffic(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var published atomic.Int64
	go func() {
		defer close(done)
		pause := time.NewTicker(2 * time.Millisecond)
		defer pause.Stop()
		for ctx.Err() == nil {
			published.Add(int64(1 - p.publish(ctx, "k", 1)))
			<-pause.C
		}
	}()
	another := func() {
		t.Helper()
		before := published.Load()
		require.Eventually(t, func() bool { return published.Load() > before }, 2*patience, time.Millisecond, "nothing is published")
	}
	another()
	return func() {
		t.Helper()
		another()
		cancel()
		<-done
	}
}

// arrived publishes until an event of now has arrived.
func (p *publisher) arrived(t *testing.T, r *recorder) {
	t.Helper()
	start := p.last
	require.Eventually(t, func() bool {
		p.publish(t.Context(), "k", 1)
		return r.last() > start
	}, 2*patience, 20*time.Millisecond)
	r.reached(t, p.sent[len(p.sent)-1])
}

func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	for name, failover := range map[string]func(*redistest.Sentinel, redistest.TB){
		"ordered": (*redistest.Sentinel).Failover,
		"killed":  (*redistest.Sentinel).KillMaster,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.StartSentinel(t)
			client := redis.NewFailoverClient(&redis.FailoverOptions{
				MasterName: s.MasterName(), SentinelAddrs: s.Addrs(), ContextTimeoutEnabled: true,
				DialTimeout: time.Second, ReadTimeout: time.Second,
			})
			t.Cleanup(func() { _ = client.Close() })
			n := newSystem(t, client, notification.WithHeartbeat(500*time.Millisecond))
			r := record(t, subscribe(t, n, "k*"))
			p := &publisher{system: n}
			p.arrived(t, r)
			stop := p.traffic(t)
			failover(s, t)
			stop()
			p.arrived(t, r)
			r.hasAll(t, s.Master().Client(t))
			missing := r.verify(t, p.sent)
			t.Logf("%d published, %d missing, gaps %v", len(p.sent), missing, r.gaps())
			assert.NotEmpty(t, r.gaps(), "a failover may have lost events, so it is told")
		})
	}
}
