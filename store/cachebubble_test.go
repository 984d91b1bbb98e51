package store_test

import (
	"context"
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

// TestClientClockOfACache: in a bubble it is the year 2000, and on the server it is now. No call notices.
func TestClientClockOfACache(t *testing.T) {
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
		c := newCache[string](t, s, store.WithEarly(0.5), store.WithTTL(time.Hour))
		loader, count := loads("v")
		for range 3 {
			item, err := c.GetOrLoadItem(t.Context(), "k", loader)
			require.NoError(t, err)
			assert.Less(t, item.Age, patience)
		}
		assert.EqualValues(t, 1, count.Load())
		require.NoError(t, c.Set(t.Context(), "k", "w"))
		v, err := c.Get(t.Context(), "k")
		require.NoError(t, err)
		assert.Equal(t, "w", v)
	})
}

// TestEmbeddedCache: everything runs on the in-process server, and in a bubble, where time costs nothing.
func TestEmbeddedCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := embedded.New()
		client := redis.NewClient(&redis.Options{
			ContextTimeoutEnabled: true, Dialer: server.Dial,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		var stores []*store.Store
		for range 2 {
			s, err := store.New(client)
			require.NoError(t, err)
			stores = append(stores, s)
		}
		defer func() {
			for _, s := range stores {
				require.NoError(t, s.Close(t.Context()))
			}
			_ = client.Close()
			_ = server.Close()
			time.Sleep(time.Minute) // in a bubble: a client may still be trying to dial in the background
		}()
		opts := []store.Option{
			store.WithTTL(time.Hour), store.WithStale(time.Hour), store.WithNegative(time.Minute), store.WithEarly(0.5),
		}
		a, b := newCache[string](t, stores[0], opts...), newCache[string](t, stores[1], opts...)
		ctx := t.Context()

		loader := newGated[string]()
		first := async(ctx, a, "k", loader.load)
		receive(t, loader.began, "the load")
		second := async(ctx, b, "k", loader.load)
		time.Sleep(10 * time.Second) // in a bubble: the lease is renewed
		loader.give("one", nil)
		for _, ch := range []<-chan outcome[string]{first, second} {
			out := receive(t, ch, "a value")
			require.NoError(t, out.err)
			assert.Equal(t, "one", out.item.Value)
			assert.Zero(t, out.item.Age)
		}
		assert.EqualValues(t, 1, loader.runs.Load())

		time.Sleep(31 * time.Minute) // in a bubble
		early, _ := loads("two")
		item, err := b.GetOrLoadItem(ctx, "k", early)
		require.NoError(t, err)
		assert.Equal(t, "one", item.Value)
		assert.Equal(t, 31*time.Minute, item.Age)
		synctest.Wait()
		item, err = a.GetItem(ctx, "k")
		require.NoError(t, err)
		assert.Equal(t, "two", item.Value)

		time.Sleep(90 * time.Minute) // in a bubble
		item, err = a.GetOrLoadItem(ctx, "k", func(context.Context) (string, error) { return "", errDatabase })
		require.NoError(t, err)
		assert.Equal(t, "two", item.Value)
		assert.Equal(t, 90*time.Minute, item.Age)
		require.ErrorIs(t, item.Cause, errDatabase)
		_, err = b.GetOrLoad(ctx, "k", never, store.WithStale(29*time.Minute))
		require.ErrorIs(t, err, store.ErrLoad, "what is there is too old for this caller")
		time.Sleep(time.Second) // in a bubble: the pause is over
		three, count := loads("three")
		v, err := b.GetOrLoad(ctx, "k", three)
		require.NoError(t, err)
		assert.Equal(t, "three", v)
		assert.EqualValues(t, 1, count.Load())

		_, err = a.GetOrLoad(ctx, "none", func(context.Context) (string, error) { return "", store.ErrNotFound })
		require.ErrorIs(t, err, store.ErrNotFound)
		time.Sleep(59 * time.Second) // in a bubble
		_, err = b.GetOrLoad(ctx, "none", never)
		require.ErrorIs(t, err, store.ErrNotFound)
		time.Sleep(time.Second) // in a bubble
		v, err = b.GetOrLoad(ctx, "none", three)
		require.NoError(t, err)
		assert.Equal(t, "three", v)

		l := &table{rows: map[string]string{"x": "1", "y": "2"}}
		values, err := a.LoadMany(ctx, []string{"x", "y", "z"}, l.load)
		require.NoError(t, err)
		assert.Equal(t, l.rows, values)
		require.NoError(t, b.Delete(ctx, "x", "y"))
		values, err = a.GetMany(ctx, []string{"x", "y", "k"})
		require.NoError(t, err)
		assert.Equal(t, map[string]string{"k": "three"}, values)
	})
}

// TestNearInABubble: the embedded server does not track keys, so that those who write say what has changed.
func TestNearInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := embedded.New()
		client := redis.NewClient(&redis.Options{
			ContextTimeoutEnabled: true, Dialer: server.Dial,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		a, err := store.New(client)
		require.NoError(t, err)
		b, err := store.New(client, store.WithNear(100, 3*time.Second))
		require.NoError(t, err)
		defer func() {
			require.NoError(t, a.Close(t.Context()))
			require.NoError(t, b.Close(t.Context()))
			_ = client.Close()
			_ = server.Close()
			time.Sleep(time.Minute) // in a bubble: a client may still be trying to dial in the background
		}()
		ctx := t.Context()
		writer := newCache[string](t, a, store.WithTTL(time.Hour))
		c := newCache[string](t, b, store.WithTTL(time.Hour), store.WithStale(time.Minute), store.WithNegative(time.Minute))
		require.NoError(t, writer.Set(ctx, "k", "one"))
		for item := (store.Item[string]{}); item.Source != store.SourceNear; time.Sleep(100 * time.Millisecond) { // in a bubble
			item, err = c.GetItem(ctx, "k")
			require.NoError(t, err)
		}
		require.NoError(t, writer.Set(ctx, "k", "one"))
		source := func(key string) (store.Source, string) {
			t.Helper()
			item, err := c.GetItem(ctx, key)
			require.NoError(t, err)
			return item.Source, item.Value
		}
		twice := func(key, want string) {
			t.Helper()
			synctest.Wait()
			for _, from := range []store.Source{store.SourceRedis, store.SourceNear} {
				got, value := source(key)
				assert.Equal(t, from, got)
				assert.Equal(t, want, value)
			}
		}
		twice("k", "one")
		require.NoError(t, writer.Set(ctx, "k", "two"))
		twice("k", "two")
		require.NoError(t, writer.Delete(ctx, "k"))
		loader, _ := loads("three")
		_, err = writer.GetOrLoad(ctx, "k", loader)
		require.NoError(t, err)
		twice("k", "three")
		time.Sleep(40 * time.Minute) // in a bubble
		from, _ := source("k")
		assert.Equal(t, store.SourceNear, from)
		time.Sleep(20 * time.Minute) // in a bubble: the TTL has ended, whether or not anybody says so
		_, err = c.Get(ctx, "k")
		require.ErrorIs(t, err, store.ErrNotFound)

		_, err = c.GetOrLoad(ctx, "k", func(context.Context) (string, error) { return "", store.ErrNotFound }, store.WithNegative(0))
		require.ErrorIs(t, err, store.ErrNotFound, "deletes what is past its TTL")
		_, err = c.GetOrLoad(ctx, "none", func(context.Context) (string, error) { return "", store.ErrNotFound })
		require.ErrorIs(t, err, store.ErrNotFound)
		synctest.Wait()
		for _, from := range []store.Source{store.SourceRedis, store.SourceNear} {
			item, err := c.GetOrLoadItem(ctx, "none", never)
			require.ErrorIs(t, err, store.ErrNotFound)
			assert.Equal(t, from, item.Source)
		}
		time.Sleep(time.Minute) // in a bubble
		_, err = c.GetOrLoad(ctx, "none", loader)
		require.NoError(t, err)
		twice("none", "three")

		sliding := must(store.NewCache[string](b, "sliding", store.WithTTL(time.Hour), store.WithJitter(0), store.WithSliding()))
		require.NoError(t, sliding.Set(ctx, "k", "v"))
		near := 0
		for range 100 {
			time.Sleep(7 * time.Minute) // in a bubble
			item, err := sliding.GetItem(ctx, "k")
			require.NoError(t, err, "it is read all the time")
			if item.Source == store.SourceNear {
				near++
			}
		}
		assert.Greater(t, near, 50)

		tagged := must(store.NewCache[string](a, "tagged", store.WithTags("all")))
		reader := must(store.NewCache[string](b, "tagged"))
		for i := range 3 { // in no time, so that clocks tell nothing apart
			require.NoError(t, tagged.Set(ctx, "k", "v", store.WithTags("some")))
			for item := (store.Item[string]{}); item.Source != store.SourceNear; time.Sleep(100 * time.Millisecond) { // in a bubble
				item, err = reader.GetItem(ctx, "k")
				require.NoError(t, err)
			}
			require.NoError(t, tagged.InvalidateTag(ctx, []string{"all", "some"}[i%2]))
			require.NoError(t, tagged.Set(ctx, "other", "v"))
			synctest.Wait()
			_, err = reader.Get(ctx, "k")
			require.ErrorIs(t, err, store.ErrNotFound)
		}
		require.NoError(t, tagged.Clear(ctx))
		_, err = tagged.Get(ctx, "other")
		require.ErrorIs(t, err, store.ErrNotFound)

		early := must(store.NewCache[string](b, "early", store.WithTTL(time.Hour), store.WithEarly(0.5), store.WithJitter(0)))
		require.NoError(t, early.Set(ctx, "k", "v"))
		for item := (store.Item[string]{}); item.Source != store.SourceNear; time.Sleep(100 * time.Millisecond) { // in a bubble
			item, err = early.GetOrLoadItem(ctx, "k", never)
			require.NoError(t, err)
		}
		time.Sleep(31 * time.Minute) // in a bubble
		item, err := early.GetOrLoadItem(ctx, "k", loader)
		require.NoError(t, err)
		assert.Equal(t, "v", item.Value)
		assert.Equal(t, store.SourceNear, item.Source)
		synctest.Wait()
		item, err = early.GetItem(ctx, "k")
		require.NoError(t, err)
		assert.Equal(t, "three", item.Value)
	})
}
