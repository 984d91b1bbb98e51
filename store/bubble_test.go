package store_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// everything makes every call of a State, on a server without values.
func everything(t *testing.T, st *store.State[string]) {
	t.Helper()
	ctx := t.Context()
	_, err := st.Get(ctx, "k")
	require.ErrorIs(t, err, store.ErrNotFound)
	one, err := st.Create(ctx, "k", "one\x00\n")
	require.NoError(t, err)
	_, err = st.Create(ctx, "k", "two")
	require.ErrorIs(t, err, store.ErrExists)
	two := put(t, st, "k", "two", store.IfVersion(one), store.WithFence(1<<53-1), store.WithTTL(time.Hour))
	assert.Greater(t, two, one)
	_, err = st.Put(ctx, "k", "x", store.IfVersion(one))
	require.ErrorIs(t, err, store.ErrConflict)
	_, err = st.Put(ctx, "k", "x", store.WithFence(1<<53-2))
	require.ErrorIs(t, err, store.ErrFenced)
	item, err := st.Update(ctx, "k", func(v *string) error { *v += " three"; return nil })
	require.NoError(t, err)
	assert.Equal(t, "two three", item.Value)
	require.NoError(t, st.Touch(ctx, "k", 2*time.Hour))
	got := get(t, st, "k")
	assert.Equal(t, item.Version, got.Version)
	assert.Equal(t, item.Value, got.Value)
	assert.Less(t, got.Age, time.Minute)
	put(t, st, "another {key}", "x")
	assert.Len(t, list(t, st, ""), 2)
	assert.Equal(t, map[string]string{"another {key}": "x"}, list(t, st, "another {"))
	require.NoError(t, st.Delete(ctx, "k", store.IfVersion(item.Version)))
	_, err = st.Get(ctx, "k")
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = st.Create(ctx, "k", "x", store.WithFence(5))
	require.ErrorIs(t, err, store.ErrFenced)
	require.ErrorIs(t, st.Touch(ctx, "k", 0), store.ErrNotFound)
}

// TestEmbedded: the scripts run on the in-process server, whose Lua is another one, and times are those of its clock.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := embedded.New()
		client := redis.NewClient(&redis.Options{
			ContextTimeoutEnabled: true, Dialer: server.Dial,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		s, err := store.New(client)
		require.NoError(t, err)
		defer func() {
			require.NoError(t, s.Close(t.Context()))
			_ = client.Close()
			_ = server.Close()
			time.Sleep(time.Minute) // in a bubble: a client may still be trying to dial in the background
		}()
		st := newState[string](t, s)
		everything(t, st)
		for name, write := range foreign() {
			if write(t.Context(), client, redisKey(name)) != nil {
				continue // it has no such type
			}
			_, err := st.Get(t.Context(), name)
			require.ErrorIs(t, err, store.ErrCodec, name)
			_, err = st.Put(t.Context(), name, "x")
			require.ErrorIs(t, err, store.ErrCodec, name)
			require.ErrorIs(t, st.Delete(t.Context(), name), store.ErrCodec, name)
		}
		put(t, st, "hour", "x", store.WithTTL(time.Hour), store.WithFence(3))
		time.Sleep(time.Hour - time.Second) // in a bubble: it costs nothing
		assert.Equal(t, time.Hour-time.Second, get(t, st, "hour").Age)
		time.Sleep(time.Second) // in a bubble: it costs nothing
		_, err = st.Get(t.Context(), "hour")
		require.ErrorIs(t, err, store.ErrNotFound)
		time.Sleep(23 * time.Hour) // in a bubble: it costs nothing
		_, err = st.Put(t.Context(), "hour", "x", store.WithFence(2))
		require.ErrorIs(t, err, store.ErrFenced)
		time.Sleep(2 * time.Hour) // in a bubble: it costs nothing
		put(t, st, "hour", "x", store.WithFence(2))
	})
}

// TestClientClock: in a bubble it is the year 2000, and on the server it is now. No call notices.
func TestClientClock(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	synctest.Test(t, func(t *testing.T) {
		client := redis.NewClient(&redis.Options{
			Addr: server.Addr(), ContextTimeoutEnabled: true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		s, err := store.New(client)
		require.NoError(t, err)
		defer func() {
			require.NoError(t, s.Close(t.Context()))
			_ = client.Close()
		}()
		require.Less(t, time.Now().Year(), 2001)
		everything(t, newState[string](t, s))
	})
}
