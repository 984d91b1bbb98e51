package fxtest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/compozy/cache"
	cachetest "github.com/compozy/cache/fxtest"
	"github.com/compozy/cache/store"
)

type user struct{ Name string }

// ann is a loader that never fails.
func ann(context.Context) (user, error) { return user{"Ann"}, nil }

func newUsers(t *testing.T, s *cachetest.Store, opts ...store.Option) *store.Cache[user] {
	t.Helper()
	users, err := store.NewCache[user](s.Store, "users", opts...)
	require.NoError(t, err)
	return users
}

func TestStoreExpires(t *testing.T) {
	t.Parallel()
	for name, pass := range map[string]func(s *cachetest.Store, d time.Duration){
		"Expire": (*cachetest.Store).Expire,
		"sleep":  func(_ *cachetest.Store, d time.Duration) { time.Sleep(d) }, // in a bubble: its clock
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				s := cachetest.NewStore(t)
				users := newUsers(t, s, store.WithTTL(time.Minute), store.WithJitter(0), store.WithStale(time.Hour), store.WithFailurePause(0))
				flows, err := store.NewState[string](s.Store, "flows", store.WithTTL(time.Hour))
				require.NoError(t, err)
				_, err = flows.Create(ctx, "f", "running")
				require.NoError(t, err)
				item, err := users.GetOrLoadItem(ctx, "7", ann)
				require.NoError(t, err)
				assert.Equal(t, store.SourceLoaded, item.Source)

				pass(s, time.Minute)

				s.FailLoads(errors.New("no database"))
				item, err = users.GetOrLoadItem(ctx, "7", ann)
				require.NoError(t, err)
				assert.True(t, item.Stale)
				s.FailLoads(nil)
				item, err = users.GetOrLoadItem(ctx, "7", ann)
				require.NoError(t, err)
				assert.Equal(t, store.SourceLoaded, item.Source)
				pass(s, time.Hour+time.Minute)
				_, err = users.Get(ctx, "7")
				require.ErrorIs(t, err, store.ErrNotFound)
				_, err = flows.Get(ctx, "f")
				require.ErrorIs(t, err, store.ErrNotFound)
			})
		})
	}
}

func TestStoreFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := cachetest.NewStore(t)
		users := newUsers(t, s)
		flows, err := store.NewState[string](s.Store, "flows")
		require.NoError(t, err)
		version, err := flows.Create(ctx, "f", "running")
		require.NoError(t, err)
		require.NoError(t, users.Set(ctx, "7", user{"Ann"}))

		s.Fail(errors.New("power cut"))

		_, err = users.Get(ctx, "7")
		require.ErrorIs(t, err, store.ErrUnavailable)
		_, err = flows.Get(ctx, "f")
		require.ErrorIs(t, err, store.ErrUnavailable)
		_, err = flows.Put(ctx, "f", "done", store.IfVersion(version))
		require.ErrorIs(t, err, store.ErrUnavailable)
		loaded, err := users.GetOrLoad(ctx, "8", ann)
		require.NoError(t, err, "a cache does without Redis")
		assert.Equal(t, "Ann", loaded.Name)
		require.ErrorIs(t, s.HealthCheck(ctx), store.ErrUnavailable)

		s.Fail(nil)
		time.Sleep(2 * time.Second) // in a bubble: its clock

		found, err := users.Get(ctx, "7")
		require.NoError(t, err)
		assert.Equal(t, "Ann", found.Name)
		item, err := flows.Get(ctx, "f")
		require.NoError(t, err)
		assert.Equal(t, "running", item.Value)
		_, err = flows.Put(ctx, "f", "done", store.IfVersion(version))
		require.NoError(t, err)
	})
}

func TestStoreFailsLoads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var own error
		s := cachetest.NewStore(t, store.WithBeforeLoad(func(context.Context, string) error { return own }))
		users := newUsers(t, s)
		never := func(context.Context) (user, error) { panic("is not called") }
		down := errors.New("no database")
		s.FailLoads(down)
		_, err := users.GetOrLoad(ctx, "7", never)
		require.ErrorIs(t, err, down)
		_, err = users.LoadMany(ctx, []string{"8"}, func(context.Context, []string) (map[string]user, error) { panic("is not called") })
		require.ErrorIs(t, err, down)

		s.FailLoads(nil)
		time.Sleep(2 * time.Second) // in a bubble: its clock
		own = errors.New("the test's own")
		_, err = users.GetOrLoad(ctx, "7", never)
		require.ErrorIs(t, err, own)

		own = nil
		time.Sleep(2 * time.Second) // in a bubble
		found, err := users.GetOrLoad(ctx, "7", ann)
		require.NoError(t, err)
		assert.Equal(t, "Ann", found.Name)
	})
}

// A store with faults takes the place of the one of an application.
func TestStoreInAnApplication(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := cachetest.NewStore(t)
		var users *cache.StoreCache[user]
		app := cachetest.New(t, fx.Replace(s.Store), cache.NewCache[user]("users"), fx.Populate(&users))
		assert.Same(t, s.Store, app.Store)
		require.NoError(t, users.Set(t.Context(), "7", user{"Ann"}))
		s.Fail(errors.New("power cut"))
		require.ErrorIs(t, users.Set(t.Context(), "7", user{"Bob"}), cache.ErrUnavailable)
		require.NoError(t, app.Redis.Ping(t.Context()).Err(), "that of the application goes on")
	})
}

// In a whole application the server is what fails.
func TestServerOfAnApplicationFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var flows *cache.State[string]
		app := cachetest.New(t, cache.NewState[string]("flows"), fx.Populate(&flows))
		ctx := t.Context()
		_, err := flows.Create(ctx, "f", "running", cache.WithTTL(time.Hour))
		require.NoError(t, err)
		app.Server.Fail(errors.New("power cut"))
		_, err = flows.Get(ctx, "f")
		require.ErrorIs(t, err, cache.ErrUnavailable)
		_, err = app.LockManager.Acquire(ctx, "l", time.Minute)
		require.ErrorIs(t, err, cache.ErrLockRedis)
		app.Server.Fail(nil)
		time.Sleep(2 * time.Second) // in a bubble: its clock
		item, err := flows.Get(ctx, "f")
		require.NoError(t, err)
		assert.Equal(t, "running", item.Value)
		app.Server.FastForward(time.Hour)
		_, err = flows.Get(ctx, "f")
		require.ErrorIs(t, err, cache.ErrNotFound)
	})
}
