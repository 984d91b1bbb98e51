package notification_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// limited returns a client that logs in as a user who may do everything but for the rules given.
func limited(tb testing.TB, server *redistest.Server, rules ...any) *redis.Client {
	tb.Helper()
	user := append([]any{"acl", "setuser", "limited", "on", ">secret", "~*", "&*", "+@all"}, rules...)
	require.NoError(tb, server.Client(tb).Do(tb.Context(), user...).Err())
	options := server.Options()
	options.Username, options.Password = "limited", "secret"
	client := redis.NewClient(options)
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// logging returns an option that makes a system log into what else is returned.
func logging() (notification.Option, *observer.ObservedLogs) {
	core, logs := observer.New(zap.DebugLevel)
	return notification.WithLogger(zap.New(core)), logs
}

const heartbeatPrefix = "cache:{notification}:heartbeat:"

// A user who may not listen to the heartbeats has no connection that could be relied on, and learns why. The names he
// may listen to wait for the permission.
func TestHeartbeatsRefused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := limited(t, server, "resetchannels", "&allowed:*")
	log, logs := logging()
	n := newSystem(t, client, log, notification.WithPingTimeout(50*time.Millisecond))
	first := subscribe(t, n, "allowed:1")
	second, glob := subscribe(t, n, "allowed:2"), subscribe(t, n, "allowed:*")
	refusals := func() []observer.LoggedEntry { return logs.FilterMessage("notification: subscription refused").All() }
	require.Eventually(t, func() bool { return len(refusals()) > 3 }, patience, time.Millisecond, "it tries again")
	for _, entry := range refusals() {
		assert.Contains(t, entry.ContextMap()["name"], heartbeatPrefix)
	}
	err := health(n)
	require.ErrorIs(t, err, notification.ErrNotLive)
	require.ErrorContains(t, err, "NOPERM")
	require.ErrorContains(t, err, heartbeatPrefix)
	for _, s := range []*notification.Subscription{first, second, glob} {
		require.NoError(t, s.Err(), s.Pattern())
	}

	admin := server.Client(t)
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "limited", "&"+heartbeatPrefix+"*").Err())
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, 5*time.Millisecond)
	require.NoError(t, n.Publish(t.Context(), "allowed:1", struct{}{}))
	next(t, first)
	next(t, glob)
	require.NoError(t, n.Publish(t.Context(), "allowed:2", struct{}{}))
	next(t, second)
}

// The error says what was refused, by whom and why.
func TestErrorOfARefusedName(t *testing.T) {
	t.Parallel()
	client := limited(t, redistest.Start(t), "resetchannels", "&"+heartbeatPrefix+"*")
	s := newSystem(t, client).Subscribe(t.Context(), "forbidden").(*notification.Subscription)
	requireClosed(t, s)
	require.ErrorContains(t, s.Err(), `notification: subscription to "forbidden" refused: NOPERM `)
	var answer redis.Error
	require.ErrorAs(t, s.Err(), &answer)
}

// A refused name is one that its component does not get: the health check says so until Redis accepts the name, or the
// component is gone.
func TestRefusedNameIsNotReady(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := limited(t, server, "resetchannels", "&"+heartbeatPrefix+"*", "&allowed")
	n := newSystem(t, client)
	open := subscribe(t, n, "allowed")
	require.NoError(t, n.HealthCheck(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	for range 3 { // a component that tries again
		for _, name := range []string{"forbidden", "forbidden:*"} {
			s := n.Subscribe(ctx, name)
			requireClosed(t, s.(*notification.Subscription))
			require.NoError(t, s.Close(), "which is what a reader does whose channel was closed")
		}
	}
	err := n.HealthCheck(t.Context())
	require.ErrorIs(t, err, notification.ErrNotLive)
	require.ErrorContains(t, err, `subscription to "forbidden" refused: NOPERM `)
	require.ErrorContains(t, err, "(and 1 more)")
	require.NoError(t, n.Publish(t.Context(), "allowed", struct{}{}))
	next(t, open)

	require.NoError(t, server.Client(t).Do(t.Context(), "acl", "setuser", "limited", "&forbidden").Err())
	subscribe(t, n, "forbidden")
	err = n.HealthCheck(t.Context())
	require.ErrorContains(t, err, `subscription to "forbidden:*" refused: NOPERM `)
	cancel()
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
}

// A permission that is taken away ends subscriptions when the connection is made anew, and one whose context has ended
// before it was refused does not count.
func TestNameThatIsRefusedLater(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	n := newSystem(t, limited(t, server))
	s := subscribe(t, n, "k")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, n.Subscribe(gone, "g").(*notification.Subscription).Err(), context.Canceled)
	require.NoError(t, n.HealthCheck(t.Context()))
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "limited", "resetchannels", "&"+heartbeatPrefix+"*").Err())
	requireClosed(t, s) // Redis cuts connections that listen to what they may not
	require.Eventually(t, func() bool {
		err := n.HealthCheck(t.Context())
		return err != nil && strings.Contains(err.Error(), `subscription to "k" refused`)
	}, patience, time.Millisecond)
}

// A node of a Cluster that cannot tell when it loses the journal makes failovers lose events without a trace.
func TestRefusedGuardIsNotReady(t *testing.T) {
	t.Parallel()
	set := redistest.StartCluster(t, 1)
	admin := set.Nodes()[0].Client(t)
	user := []any{"acl", "setuser", "limited", "on", ">secret", "~*", "&*", "+@all", "-ssubscribe"}
	require.NoError(t, admin.Do(t.Context(), user...).Err())
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: set.Addrs(), Username: "limited", Password: "secret"})
	t.Cleanup(func() { _ = client.Close() })
	n := newSystem(t, client)
	subscribe(t, n, "k")
	refused := func() bool { return n.HealthCheck(t.Context()) != nil }
	require.Eventually(t, refused, patience, time.Millisecond, "the answer may come later than that for k")
	err := n.HealthCheck(t.Context())
	require.ErrorIs(t, err, notification.ErrNotLive)
	require.ErrorContains(t, err, "SSUBSCRIBE refused")
	require.ErrorContains(t, err, "NOPERM")

	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "limited", "+ssubscribe").Err())
	require.NoError(t, admin.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
	require.Eventually(t, func() bool { return !refused() }, patience, time.Millisecond)
}

// Who may not read the state of the journal has nothing recovered, but a connection that stays.
func TestStateThatMayNotBeRead(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"hmget", "xlen", "xrevrange"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			client := limited(t, server, "-"+command)
			log, logs := logging()
			const heartbeat = 500 * time.Millisecond // three without an answer are a reconnect, also on a machine that stands still
			n := newSystem(t, client, log, notification.WithHeartbeat(heartbeat))
			beats := server.Client(t).PSubscribe(t.Context(), heartbeatPrefix+"*")
			t.Cleanup(func() { _ = beats.Close() })
			s := subscribe(t, n, "k")
			for range 2 * 3 {
				_, err := beats.ReceiveTimeout(t.Context(), patience)
				require.NoError(t, err, "heartbeats come")
			}
			assert.Zero(t, n.GetMetrics().Reconnects)
			require.NoError(t, n.HealthCheck(t.Context()))
			require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
			assert.Nil(t, next(t, s).Gap)
			told := logs.FilterMessageSnippet("the state of the journal cannot be read").All()
			require.Len(t, told, 1, "once for each connection")
			assert.Equal(t, zap.WarnLevel, told[0].Level)
			assert.NotEmpty(t, told[0].ContextMap()["error"], "what the server said")
			assert.Contains(t, told[0].ContextMap()["needed"], strings.ToUpper(command))
		})
	}
}

// Who may not read the journal when the connection is made may be allowed to later. A heartbeat tells, and what was
// missed in a cut before that is reported.
func TestStateThatMayBeReadLater(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	limited(t, server, "-hmget")
	client, proxy := through(t, server, func(o *redis.Options) { o.Username, o.Password = "limited", "secret" })
	allow := func() { require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "limited", "+hmget").Err()) }
	n := newSystem(t, client, notification.WithHeartbeat(500*time.Millisecond))
	r, p := record(t, subscribe(t, n, "k")), &publisher{system: newSystem(t, admin)}
	require.Zero(t, p.publish(t.Context(), "k", 5))
	r.reached(t, p.last)

	proxy.Refuse(true)
	proxy.Cut()
	require.Zero(t, p.publish(t.Context(), "k", 5))
	allow()
	proxy.Refuse(false)
	assert.Equal(t, notification.GapUnreadable, told(t, r.sub).Reason)
	require.Eventually(t, func() bool { return n.HealthCheck(t.Context()) == nil }, patience, time.Millisecond)
	require.Zero(t, p.publish(t.Context(), "k", 5))
	r.reached(t, p.last)
	assert.Equal(t, 5, r.verify(t, p.sent))

	// From now on everything is recovered.
	proxy.Refuse(true)
	proxy.Cut()
	require.Zero(t, p.publish(t.Context(), "k", 5))
	proxy.Refuse(false)
	r.reached(t, p.last)
	assert.Equal(t, 5, r.verify(t, p.sent))
	assert.Equal(t, []notification.GapReason{notification.GapUnreadable}, r.gaps())
}

// As above without a cut: nothing is missed, and the connection stays.
func TestHeartbeatTellsThatTheStateMayBeRead(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	client := limited(t, server, "-hmget")
	n := newSystem(t, client, notification.WithHeartbeat(500*time.Millisecond))
	r, p := record(t, subscribe(t, n, "k")), &publisher{system: newSystem(t, admin)}
	require.Zero(t, p.publish(t.Context(), "k", 5))
	r.reached(t, p.last)
	beats := admin.PSubscribe(t.Context(), heartbeatPrefix+"*")
	t.Cleanup(func() { _ = beats.Close() })
	_, err := beats.Receive(t.Context())
	require.NoError(t, err)
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "limited", "+hmget").Err())
	for !strings.Contains(receive(t, beats), "\n") { // one that tells more than its number
		continue
	}
	require.Zero(t, p.publish(t.Context(), "k", 5)) // it comes after that
	r.reached(t, p.last)
	assert.Zero(t, n.GetMetrics().Reconnects)
	cut(t, n, admin)
	require.Zero(t, p.publish(t.Context(), "k", 5))
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Empty(t, r.gaps())
}

// Who may not read the journal is not left waiting for a replay: he gets a gap, and what comes from then on.
func TestReplayThatMayNotBeRead(t *testing.T) {
	t.Parallel()
	client := limited(t, redistest.Start(t), "-xrange")
	n := newSystem(t, client, notification.WithBufferSize(2))
	slow, marker := subscribe(t, n, "k"), subscribe(t, n, "marker")
	for range 10 {
		require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	}
	require.NoError(t, n.Publish(t.Context(), "marker", struct{}{}))
	next(t, marker) // so all of them have passed
	next(t, slow)
	next(t, slow)
	assert.Equal(t, notification.GapUnreadable, told(t, slow).Reason)
	for name, id := range map[string]string{"the past": "1-1", "the future": "99999999999999-0"} {
		resumed := n.SubscribeFrom(t.Context(), "k", id)
		assert.Equal(t, notification.GapTrimmed, told(t, resumed).Reason, name) // which shows without reading
		assert.Equal(t, notification.GapUnreadable, told(t, resumed).Reason, name)
		require.NoError(t, n.Publish(t.Context(), "k", numbered{7}))
		for _, s := range []*notification.Subscription{slow, resumed} {
			m := next(t, s)
			assert.Contains(t, m.Payload, "7}", name)
			assert.False(t, m.Recovered, name)
		}
		require.NoError(t, resumed.Close())
	}
}

// Who may not unsubscribe stays subscribed, and that is all: the refusal is about no other name.
func TestUnsubscribeRefused(t *testing.T) {
	t.Parallel()
	client := limited(t, redistest.Start(t), "-unsubscribe", "-punsubscribe")
	log, logs := logging()
	n := newSystem(t, client, log, notification.WithUnsubscribeDelay(-1))
	for range 20 {
		first, glob := subscribe(t, n, "first"), subscribe(t, n, "f*")
		require.NoError(t, first.Close())
		require.NoError(t, glob.Close()) // while these names are dropped, another one is asked for
		second := subscribe(t, n, "second")
		require.NoError(t, n.Publish(t.Context(), "second", struct{}{}))
		next(t, second)
		require.NoError(t, second.Err())
		require.NoError(t, second.Close())
	}
	stays := func() bool { return logs.FilterMessageSnippet("stays subscribed").Len() > 0 }
	require.Eventually(t, stays, patience, time.Millisecond)
	assert.Zero(t, n.GetMetrics().Reconnects)
	assert.Zero(t, logs.FilterMessage("notification: subscription refused").Len())
}

// Heartbeats tell nothing of the journal then, so nobody would learn that a replay reads another data set. It must go on.
func TestReplayWithoutTheStateOfTheJournal(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	outside := newSystem(t, admin)
	require.NoError(t, subscribe(t, outside, "x").Close()) // the data set has a mark
	require.NoError(t, outside.Close())
	outside = newSystem(t, admin)
	client := limited(t, server, "-set") // and cannot be given another one
	n := newSystem(t, client, notification.WithBufferSize(1), notification.WithHeartbeat(500*time.Millisecond))
	s, other := subscribe(t, n, "k"), subscribe(t, n, "k*")
	for i := range 6 {
		if i == 3 {
			require.NoError(t, admin.FlushAll(t.Context()).Err())
			flushed := admin.Time(t.Context()).Val().UnixMilli()
			require.Eventually(t, func() bool {
				return admin.Time(t.Context()).Val().UnixMilli() > flushed
			}, patience, time.Millisecond, "events have later places than those before")
		}
		require.NoError(t, outside.Publish(t.Context(), "k", numbered{i + 1}))
		next(t, other)
	}
	for _, expected := range []int{1, 4, 5, 6} {
		m := next(t, s)
		number, err := numberOf(m)
		require.NoError(t, err)
		assert.Equal(t, expected, number)
		assert.Equal(t, expected == 4, m.Gap != nil)
	}
}
