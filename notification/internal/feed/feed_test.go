package feed_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	appclient "github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification/internal/feed"
)

func TestSession(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	f, sink := start(t, client, nil, feed.Name{Text: "a"}, glob("b*"))
	sink.wait(t, 1, "up 1")
	assert.Len(t, sink.all("confirmed 1 a"), 1)
	assert.Len(t, sink.all("confirmed 1 *b*"), 1)
	assert.NotEmpty(t, sink.all("beat 1"), "it is up when a heartbeat has come back")
	require.NoError(t, client.Publish(t.Context(), "a", "x").Err())
	require.NoError(t, client.Publish(t.Context(), "bc", "y").Err())
	assert.Equal(t, "message 1 *b* @bc y", sink.wait(t, 2, "message"))
	assert.Equal(t, "message 1 a @a x", sink.wait(t, 1, "message"))
	assert.True(t, f.Status().Up)
	require.NoError(t, f.Alive())
	assert.Equal(t, 1, listeners(t, server))

	s := sink.current()
	require.NoError(t, s.Client.Set(t.Context(), "k", 1, 0).Err(), "commands can be sent beside it")
	require.NoError(t, f.Close(t.Context()))
	<-s.Done()
	assert.Equal(t, "down 1 "+feed.ErrClosed.Error(), sink.wait(t, 1, "down"))
	require.ErrorIs(t, s.Client.Ping(t.Context()).Err(), redis.ErrClosed)
	require.NoError(t, f.Alive())
	assert.Zero(t, f.Status().Silence)
	assert.Zero(t, listeners(t, server))
}

// Whatever ends a session, the next one has every name.
func TestCuts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := through(t, server)
	admin := server.Client(t)
	f, sink := start(t, client, nil, feed.Name{Text: "a"}, glob("b*"))
	up := 0
	next := func() {
		up++
		sink.wait(t, up, "up")
		number := sink.current().Number
		assert.Len(t, sink.all(fmt.Sprintf("confirmed %d a", number)), 1)
		assert.Len(t, sink.all(fmt.Sprintf("confirmed %d *b*", number)), 1)
		require.NoError(t, admin.Publish(t.Context(), "a", "x").Err())
		sink.wait(t, 1, fmt.Sprintf("message %d a @a x", number))
	}
	next()
	proxy.Cut()
	next()
	require.NoError(t, admin.ClientKillByFilter(t.Context(), "type", "pubsub").Err())
	next()
	server.Kill()
	sink.wait(t, up, "down")
	require.Error(t, f.Status().Cause)
	assert.False(t, f.Status().Up)
	changed := f.Status().Changed
	server.Restart()
	next()
	<-changed
	for _, line := range sink.all("down") {
		assert.NotContains(t, line, "<nil>")
	}
	visible := sink.logs.FilterMessage("notification: connection lost, reconnecting").FilterLevelExact(zap.WarnLevel)
	assert.Equal(t, 1, visible.Len(), "however many attempts there were")
}

// A peer that is dead, in one direction or both, is noticed by heartbeats that do not come back.
func TestDeadPeers(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*redistest.Server, *faultproxy.Proxy) (heal func()){
		"frozen": func(s *redistest.Server, _ *faultproxy.Proxy) func() {
			s.Stop()
			return s.Continue
		},
		"to the client": func(_ *redistest.Server, p *faultproxy.Proxy) func() {
			p.SwallowToClient(true)
			return func() { p.SwallowToClient(false) }
		},
		"to the server": func(_ *redistest.Server, p *faultproxy.Proxy) func() {
			p.SwallowToServer(true)
			return func() { p.SwallowToServer(false) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			client, proxy := through(t, server)
			f, sink := start(t, client, nil, names("a")...)
			sink.wait(t, 1, "up")
			number := sink.current().Number
			began := time.Now()
			heal := fault(server, proxy)
			line := sink.wait(t, 1, fmt.Sprintf("down %d", number))
			t.Logf("noticed after %v: %s", time.Since(began).Round(time.Millisecond), line)
			assert.Contains(t, line, "no heartbeat came back")
			assert.False(t, f.Status().Up)
			heal()
			require.Eventually(t, func() bool { return f.Status().Up }, patience, time.Millisecond)
		})
	}
}

// A client without time-outs, and a server that accepts a connection and then says nothing: another one is made.
func TestSilentHandshake(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	options := server.Options()
	options.Addr, options.ReadTimeout, options.WriteTimeout = proxy.Addr(), -1, -1
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	proxy.SwallowToClient(true)
	f, _ := start(t, client, nil, names("a")...)
	require.Eventually(t, func() bool { return proxy.Requests() > 0 }, patience, time.Millisecond)
	proxy.SwallowToClient(false) // what was swallowed stays lost
	require.Eventually(t, func() bool { return f.Status().Up }, patience, time.Millisecond)
}

// Whatever the application does with its own pool, heartbeats and reads beside the connection have connections of theirs.
func TestBusyPool(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	options := server.Options()
	options.PoolSize, options.MaxRetries = 4, -1
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	_, sink := start(t, client, func(s *feed.Settings) { s.Heartbeat = 100 * time.Millisecond }, names("a")...)
	sink.wait(t, 1, "up")
	admin := server.Client(t)
	for range 4 {
		go client.BLPop(context.WithoutCancel(t.Context()), 0, "nothing")
	}
	t.Cleanup(func() { admin.LPush(context.Background(), "nothing", 1, 2, 3, 4) })
	require.Eventually(t, func() bool {
		list, err := admin.ClientList(t.Context()).Result()
		return err == nil && strings.Count(list, "cmd=blpop") == 4
	}, patience, time.Millisecond)
	number := sink.current().Number
	beats := len(sink.all("beat"))
	sink.wait(t, beats+5, "beat")
	s := sink.current()
	require.NoError(t, s.Client.Ping(t.Context()).Err())
	assert.Equal(t, number, s.Number, "nothing was cut")
	// And a new session begins as if nothing was.
	require.NoError(t, admin.ClientKillByFilter(t.Context(), "type", "pubsub").Err())
	sink.wait(t, 1, fmt.Sprintf("down %d", number))
	sink.wait(t, 2, "up")
	require.NoError(t, client.Close()) // ends the BLPOPs
}

// While the sink is at work nothing is read, and the connection is not taken for dead.
func TestSlowSink(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	f, sink := start(t, client, func(s *feed.Settings) { s.Heartbeat = 200 * time.Millisecond }, names("a")...)
	sink.wait(t, 1, "up")
	s := sink.current()
	release := sink.block()
	t.Cleanup(release)
	require.NoError(t, client.Publish(t.Context(), "a", "first").Err())
	sink.wait(t, 1, "message")
	for range 1000 {
		require.NoError(t, client.Publish(t.Context(), "a", strings.Repeat("x", 1000)).Err())
	}
	require.Eventually(t, func() bool { return f.Status().Silence > 2*time.Second }, patience, time.Millisecond,
		"three times as long as a dead peer may take")
	select {
	case <-s.Done():
		require.Fail(t, "the session has ended")
	default:
	}
	beats := len(sink.all("beat"))
	release()
	sink.wait(t, 1001, "message")
	sink.wait(t, beats+3, "beat")
	assert.Empty(t, sink.all("down"))
	assert.False(t, sink.overlap, "one call at a time")
}

// Nothing is passed on after Close has returned, be the sink stuck or not.
func TestCloseWithAStuckSink(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	f, sink := start(t, client, nil, names("a")...)
	sink.wait(t, 1, "up")
	release := sink.block()
	t.Cleanup(release)
	for range 10 {
		require.NoError(t, client.Publish(t.Context(), "a", "x").Err())
	}
	sink.wait(t, 1, "message")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, f.Close(ctx), context.Canceled)
	calls := len(sink.all(""))
	release()
	require.NoError(t, f.Close(t.Context()), "now all goroutines have ended")
	assert.Len(t, sink.all(""), calls)
}

func TestCloseBeforeStart(t *testing.T) {
	t.Parallel()
	f := feed.New(feed.Settings{Logger: zap.NewNop()}, &recorder{})
	require.NoError(t, f.Alive())
	require.NoError(t, f.Close(t.Context()))
	f.Start()
	require.NoError(t, f.Close(t.Context()))
	require.NoError(t, f.Alive())
}

// A server that does not answer must not hold up Close, whatever is waited for.
func TestCloseWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := through(t, server)
	server.Stop()
	f, sink := start(t, client, nil, names("a")...)
	require.Eventually(t, func() bool { return proxy.Requests() > 0 }, patience, time.Millisecond, "it waits for a first reply")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // less than go-redis waits for that
	defer cancel()
	require.NoError(t, f.Close(ctx))
	assert.Empty(t, sink.all(""))
}

// What this module publishes for itself is not passed on, whoever listens to it.
func TestInternalChannels(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	internal := func(channel, _ string) bool { return strings.Contains(channel, "heartbeat:") }
	_, sink := start(t, client, func(s *feed.Settings) { s.Internal = internal }, glob("*"))
	sink.wait(t, 1, "up")
	sink.wait(t, 2, "beat")
	require.NoError(t, client.Publish(t.Context(), "other:{notification}:heartbeat:x:1", "1").Err())
	require.NoError(t, client.Publish(t.Context(), "a", "x").Err())
	sink.wait(t, 1, "message 1 ** @a x")
	assert.Len(t, sink.all("message"), 1)
}

// The prefix stands before every name in Redis, and users never see it.
func TestPrefix(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	f, sink := start(t, client, func(s *feed.Settings) { s.Prefix = "prod:" }, feed.Name{Text: "a*"}, glob("a*"))
	sink.wait(t, 1, "up")
	for _, channel := range []string{"a1", "prod:a1", "dev:a1", "prod:a*"} {
		require.NoError(t, client.Publish(t.Context(), channel, channel).Err())
	}
	sink.wait(t, 3, "message")
	assert.ElementsMatch(t, []string{
		"message 1 *a* @a1 prod:a1", "message 1 *a* @a* prod:a*", "message 1 a* @a* prod:a*",
	}, sink.all("message"))
	f.Remove(glob("a*"))
	f.Remove(feed.Name{Text: "a*"})
	require.Eventually(t, func() bool {
		return client.PubSubNumPat(t.Context()).Val() == 0 && client.PubSubNumSub(t.Context(), "prod:a*").Val()["prod:a*"] == 0
	}, patience, time.Millisecond)
}

// A client of this module keeps passwords out of errors, and says that it has not been started.
func TestClientOfThisModule(t *testing.T) {
	t.Parallel()
	const secret = "swordfish"
	server := redistest.Start(t, redistest.WithPassword(secret))
	c, err := appclient.New(&config.Config{URL: server.URL()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_, sink := start(t, c, nil, names("a")...)
	waits := sink.logs.FilterMessageSnippet
	require.Eventually(t, func() bool { return waits("waits for the client to start").Len() > 0 }, patience, time.Millisecond)
	c.Open()
	sink.wait(t, 1, "up")
	admin := server.Client(t)
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "default", ">another", "<"+secret).Err())
	require.NoError(t, admin.ClientKillByFilter(t.Context(), "type", "pubsub").Err())
	require.Eventually(t, func() bool {
		return sink.logs.FilterField(zap.Int("failures", 3)).Len() > 0
	}, patience, time.Millisecond)
	for _, entry := range sink.logs.All() {
		assert.NotContains(t, fmt.Sprint(entry.Message, entry.ContextMap()), secret)
	}
}
