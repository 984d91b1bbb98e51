package near_test

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store/internal/near"
)

// write does what the scripts of a store do: it changes a key and publishes it.
func write(t *testing.T, c redis.UniversalClient, key string) {
	t.Helper()
	script := "redis.call('SET', KEYS[1], 'b') redis.call('PUBLISH', ARGV[1], KEYS[1])"
	err := c.Eval(t.Context(), script, []string{key}, near.Channel("cache:")).Err()
	if err != redis.Nil { //nolint:errorlint // as go-redis returns it
		require.NoError(t, err)
	}
}

// Where a server does not track, or not for this user, or speaks only RESP2, what is published is heard.
func TestWithoutTracking(t *testing.T) {
	t.Parallel()
	mini := miniredis.RunT(t)
	for name, client := range map[string]redis.UniversalClient{
		"miniredis": newClient(t, mini.Addr()),
		"RESP2":     newClient(t, redistest.Start(t, redistest.WithConfig("rename-command", `HELLO ""`)).Addr()),
		"permission": newClient(t, redistest.Start(t,
			redistest.WithConfig("user", "default on nopass ~* &* +@all -client|tracking")).Addr()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, client, nil)
			b.up()
			assert.True(t, b.tracker.Status().Published)
			b.fill(key(1), key(2), key(3))
			write(t, client, key(1))
			b.gone("change", key(1))
			_, hit := b.cache.Get(key(2))
			assert.True(t, hit)
			require.NoError(t, client.Publish(t.Context(), near.Channel("cache:"), "").Err())
			b.gone("all", key(2), key(3))

			mark := b.cache.Begin(key(1))
			heard := b.cache.Stats().Invalidated
			write(t, client, key(1))
			require.Eventually(t, func() bool { return b.cache.Stats().Invalidated > heard }, patience, tick)
			assert.False(t, b.cache.Put(mark, key(1), "old", 3, forever))
			b.fill(key(1))
		})
	}
}

// Without tracking the bound holds too for what is published.
func TestBoundWithoutTracking(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("user", "default on nopass ~* &* +@all -client|tracking"))
	client, proxy := paths(t, server)
	b := start(t, client, bounded)
	b.up()
	m := newModel()
	writer := published{newClient(t, server.Addr())}
	oldest, hits := m.run(b, writer, func() {
		for _, fault := range []func(on bool){
			proxy.SwallowToClient, proxy.SwallowToServer, func(bool) { proxy.Cut() },
		} {
			b.flowing()
			fault(true)
			pause(t.Context(), 2*bound)
			fault(false)
		}
		b.flowing()
	})
	t.Logf("oldest %v of %d hits", oldest, hits)
	assert.LessOrEqual(t, oldest, bound)
	assert.Greater(t, hits, int64(500))
}

// A user who may neither track nor subscribe has a cache that never serves anything, and a reason.
func TestNeitherTrackingNorChannel(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t,
		redistest.WithConfig("user", "default on nopass ~* resetchannels +@all -client|tracking"))
	b := start(t, newClient(t, server.Addr()), func(s *near.CacheSettings) { s.MaxStaleness = time.Second })
	require.Eventually(t, func() bool { return b.tracker.Status().Cause != nil }, patience, tick)
	require.ErrorContains(t, b.tracker.Status().Cause, "NOPERM")
	err := b.fetch(t.Context(), key(1))
	require.NoError(t, err)
	_, hit := b.cache.Get(key(1))
	assert.False(t, hit)
}
