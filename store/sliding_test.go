package store_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/store"
)

// TestSliding: of 100 readers that find less than half of the TTL left one extends it.
func TestSliding(t *testing.T) {
	t.Parallel()
	const ttl = time.Hour
	server, st := setup[string](t, store.WithTTL(ttl), store.WithSliding())
	client := server.Client(t)
	left := func() time.Duration {
		t.Helper()
		return client.PTTL(t.Context(), redisKey("k")).Val()
	}
	version := put(t, st, "k", "a")
	read := func() (written int64) {
		t.Helper()
		server.ResetCommands(t)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				item, err := st.Get(t.Context(), "k")
				if assert.NoError(t, err) {
					assert.Equal(t, version, item.Version)
				}
			})
		}
		all.Wait()
		return server.Commands(t)["set"]
	}
	assert.Zero(t, read())
	for range 3 {
		require.NoError(t, st.Touch(t.Context(), "k", ttl/2-time.Minute))
		assert.EqualValues(t, 1, read())
		assert.Greater(t, left(), ttl-time.Minute)
	}
	require.NoError(t, st.Touch(t.Context(), "k", ttl/2+time.Minute))
	assert.Zero(t, read())
	require.NoError(t, st.Touch(t.Context(), "k", 0))
	assert.Zero(t, read(), "what lasts for always stays so")
	require.NoError(t, st.Touch(t.Context(), "k", 10*time.Millisecond))
	require.Eventually(t, func() bool { return client.Exists(t.Context(), redisKey("k")).Val() == 0 }, patience, tick)
	_, err := st.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrNotFound)
}
