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
	"github.com/compozy/cache/store"
)

// inBubble has f use a Cache on an embedded server, in a bubble, without a near cache and with one.
func inBubble(t *testing.T, opts []store.Option, f func(t *testing.T, c *store.Cache[string])) {
	t.Helper()
	for name, near := range map[string]int{"redis": 0, "near": 100} {
		t.Run(name, func(t *testing.T) {
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
				c := newCache[string](t, s, append([]store.Option{store.WithNear(near, 3*time.Second)}, opts...)...)
				if near > 0 {
					require.NoError(t, c.Set(t.Context(), "warm", "up"))
					for item := (store.Item[string]{}); item.Source != store.SourceNear; time.Sleep(100 * time.Millisecond) { // in a bubble
						item, err = c.GetItem(t.Context(), "warm")
						require.NoError(t, err)
					}
				}
				f(t, c)
			})
		})
	}
}

// readers are the calls that read a value, and may load it.
func readers(ctx context.Context, c *store.Cache[string], v string) map[string]func(key string) (string, error) {
	loader, _ := loads(v)
	many := func(ctx context.Context, missing []string) (map[string]string, error) {
		values := make(map[string]string)
		for _, key := range missing {
			values[key] = v
		}
		return values, ctx.Err()
	}
	one := func(key string, values map[string]string, err error) (string, error) { return values[key], err }
	return map[string]func(key string) (string, error){
		"GetOrLoad": func(key string) (string, error) { return c.GetOrLoad(ctx, key, loader) },
		"options":   func(key string) (string, error) { return c.GetOrLoad(ctx, key, loader, store.WithTTL(time.Minute)) },
		"LoadMany": func(key string) (string, error) {
			values, err := c.LoadMany(ctx, []string{key, "warm"}, many)
			return one(key, values, err)
		},
		"Get": func(key string) (string, error) { return c.Get(ctx, key) },
		"GetMany": func(key string) (string, error) {
			values, err := c.GetMany(ctx, []string{key, "warm"})
			return one(key, values, err)
		},
	}
}

// TestEarlyIsAFractionOfTheTTLOfTheValue, not of that of the Cache or the call, and all calls that load heed it.
func TestEarlyIsAFractionOfTheTTLOfTheValue(t *testing.T) {
	t.Parallel()
	inBubble(t, []store.Option{store.WithTTL(time.Hour), store.WithEarly(0.5)}, func(t *testing.T, c *store.Cache[string]) {
		t.Helper()
		ctx := t.Context()
		all := readers(ctx, c, "new")
		delete(all, "Get")
		delete(all, "GetMany")
		for how := range all {
			require.NoError(t, c.Set(ctx, "short "+how, "old", store.WithTTL(20*time.Minute)))
			require.NoError(t, c.Set(ctx, "long "+how, "old", store.WithTTL(2*time.Hour)))
		}
		read := func(key, want string) {
			t.Helper()
			for range 2 { // the second may be the near cache's
				for how, get := range all {
					v, err := get(key + " " + how)
					require.NoError(t, err)
					assert.Equal(t, want, v, how)
				}
			}
			synctest.Wait()
		}
		read("long", "old")
		time.Sleep(9 * time.Minute) // in a bubble
		read("short", "old")
		read("short", "old")
		time.Sleep(50 * time.Minute) // in a bubble: 61 of 120 minutes are left
		read("long", "old")
		read("long", "old")
		time.Sleep(2 * time.Minute) // in a bubble
		for how, get := range all {
			v, err := get("long " + how)
			require.NoError(t, err)
			assert.Equal(t, "old", v, how)
		}
		synctest.Wait()
		read("long", "new")
	})
}

// TestSlidingIsForAllCallsThatRead, also for those that read many keys.
func TestSlidingIsForAllCallsThatRead(t *testing.T) {
	t.Parallel()
	inBubble(t, []store.Option{store.WithTTL(time.Hour), store.WithSliding()}, func(t *testing.T, c *store.Cache[string]) {
		t.Helper()
		all := readers(t.Context(), c, "loaded again")
		for how := range all {
			require.NoError(t, c.Set(t.Context(), how, "old"))
		}
		for range 10 {
			time.Sleep(20 * time.Minute) // in a bubble
			for how, get := range all {
				v, err := get(how)
				require.NoError(t, err, how)
				assert.Equal(t, "old", v, how)
			}
			synctest.Wait()
		}
	})
}
