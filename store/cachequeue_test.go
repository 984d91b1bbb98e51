package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// In an outage of Redis the near cache has what was loaded for five seconds. Then the loader is asked again, and if it fails,
// WithStale says how long the value will do.
func TestWhatIsLoadedInAnOutageIsLoadedAgain(t *testing.T) {
	t.Parallel()
	cabled(t, func(t *testing.T, a, _ *store.Store, cable *cable) {
		t.Helper()
		cable.cut()
		c := newCache[string](t, a, store.WithNear(100, time.Second), store.WithStale(time.Hour))
		for key, get := range map[string]func(loader func(context.Context) (string, error)) (string, error){
			"one": func(loader func(context.Context) (string, error)) (string, error) {
				return c.GetOrLoad(t.Context(), "one", loader)
			},
			"many": func(loader func(context.Context) (string, error)) (string, error) {
				values, err := c.LoadMany(t.Context(), []string{"many"}, func(ctx context.Context, _ []string) (map[string]string, error) {
					v, err := loader(ctx)
					return map[string]string{"many": v}, err
				})
				return values["many"], err
			},
		} {
			want := func(expected string, loader func(context.Context) (string, error)) {
				t.Helper()
				v, err := get(loader)
				require.NoError(t, err, key)
				assert.Equal(t, expected, v, key)
			}
			loader, count := loads("v")
			for range 3 {
				want("v", loader)
			}
			assert.EqualValues(t, 1, count.Load(), key)
			time.Sleep(6 * time.Second) // in a bubble
			loader, _ = loads("w")
			want("w", loader)
			time.Sleep(time.Minute) // in a bubble
			want("w", failingLoader)
			time.Sleep(time.Hour) // in a bubble
			_, err := get(failingLoader)
			require.ErrorIs(t, err, errDatabase, key)
		}
	})
}

// That there is no value is known in an outage for as long as the near cache has it, and is never stale.
func TestThatThereIsNoValueIsNeverStale(t *testing.T) {
	t.Parallel()
	absent := func(context.Context) (string, error) { return "", store.ErrNotFound }
	for _, stored := range []bool{false, true} {
		cabled(t, func(t *testing.T, a, _ *store.Store, cable *cable) {
			t.Helper()
			c := newCache[string](t, a, store.WithNear(100, time.Second), store.WithStale(time.Hour), store.WithNegative(time.Minute),
				store.WithSoftTimeout(time.Second))
			if stored {
				for item := (store.Item[string]{}); item.Source != store.SourceNear; time.Sleep(time.Millisecond) { // in a bubble
					var err error
					item, err = c.GetOrLoadItem(t.Context(), "k", absent)
					require.ErrorIs(t, err, store.ErrNotFound)
				}
			}
			cable.cut()
			_, err := c.GetOrLoad(t.Context(), "k", absent)
			require.ErrorIs(t, err, store.ErrNotFound)
			time.Sleep(2 * time.Minute) // in a bubble
			_, err = c.Get(t.Context(), "k")
			require.ErrorIs(t, err, store.ErrUnavailable)
			v, err := c.GetOrLoad(t.Context(), "k", func(context.Context) (string, error) {
				time.Sleep(2 * time.Second) // in a bubble: longer than the soft time-out
				return "new", nil
			})
			require.NoError(t, err)
			assert.Equal(t, "new", v)
		})
	}
}

// Who comes while a load is under way that fails gets the stale value of the near cache when Redis does not answer, as do those
// who came before.
func TestLateCallersGetWhatIsStaleInAnOutage(t *testing.T) {
	t.Parallel()
	for _, cutBefore := range []bool{false, true} {
		for call, begin := range map[string]func(
			context.Context, *store.Cache[string], func(context.Context) (string, error), ...store.Option,
		) <-chan outcome[string]{"one": kAsync, "many": manyAsync} {
			t.Run(fmt.Sprint(call, " ", cutBefore), func(t *testing.T) {
				t.Parallel()
				cabled(t, func(t *testing.T, a, _ *store.Store, cable *cable) {
					t.Helper()
					c := newCache[string](t, a, store.WithNear(100, time.Second), store.WithStale(time.Hour), store.WithTTL(time.Minute))
					require.NoError(t, c.Set(t.Context(), "k", "old"))
					for item := (store.Item[string]{}); item.Source != store.SourceNear; time.Sleep(time.Millisecond) { // in a bubble
						var err error
						item, err = c.GetItem(t.Context(), "k")
						require.NoError(t, err)
					}
					if cutBefore {
						cable.cut()
						time.Sleep(2 * time.Hour) // in a bubble: too old
						loader, _ := loads("old")
						_, err := c.GetOrLoad(t.Context(), "k", loader)
						require.NoError(t, err)
					}
					time.Sleep(2 * time.Minute) // in a bubble
					loader := newGated[string]()
					early := begin(t.Context(), c, loader.load)
					receive(t, loader.began, "the load")
					time.Sleep(time.Second) // in a bubble
					late := begin(t.Context(), c, never)
					synctest.Wait()
					cable.cut()
					loader.give("", errDatabase)
					for _, ch := range []<-chan outcome[string]{early, late} {
						out := receive(t, ch, "a caller")
						require.NoError(t, out.err)
						assert.Equal(t, "old", out.item.Value)
					}
				})
			})
		}
	}
}

// Callers who wait in the queue of an outage get what is in Redis, or load with its help, when it answers again, although the
// loaders in front of them hang.
func TestQueueEndsWithTheOutage(t *testing.T) {
	t.Parallel()
	for call, begin := range map[string]func(
		context.Context, *store.Cache[string], func(context.Context) (string, error), ...store.Option,
	) <-chan outcome[string]{"one": kAsync, "many": manyAsync} {
		for _, stored := range []bool{false, true} {
			t.Run(fmt.Sprint(call, " ", stored), func(t *testing.T) {
				t.Parallel()
				cabled(t, func(t *testing.T, a, b *store.Store, cable *cable) {
					t.Helper()
					c, other := newCache[string](t, a), newCache[string](t, b)
					cable.cut()
					stop := make(chan struct{})
					defer close(stop)
					for i := range 32 {
						async(t.Context(), c, fmt.Sprint(i), func(context.Context) (string, error) {
							<-stop
							return "", nil
						})
					}
					time.Sleep(5 * time.Second) // in a bubble: all have their slots
					loader, count := loads("loaded")
					want := "loaded"
					first := begin(t.Context(), c, loader)
					time.Sleep(3 * time.Second) // in a bubble
					require.Zero(t, count.Load())
					if stored {
						want = "stored"
						require.NoError(t, other.Set(t.Context(), "k", want))
					}
					cable.mend()
					late := begin(t.Context(), c, loader, store.WithSoftTimeout(5*time.Second))
					for _, ch := range []<-chan outcome[string]{first, late} {
						out := receive(t, ch, "a caller")
						require.NoError(t, out.err)
						assert.Equal(t, want, out.item.Value)
					}
					v, err := other.Get(t.Context(), "k")
					require.NoError(t, err)
					assert.Equal(t, want, v)
				})
			})
		}
	}
}

// occupy has all loaders that may run without Redis at work until the channel is closed.
func occupy(t *testing.T, c *store.Cache[string]) (stop chan struct{}) {
	t.Helper()
	stop = make(chan struct{})
	began := make(chan struct{}, 32)
	for i := range 32 {
		async(t.Context(), c, fmt.Sprint(i), func(context.Context) (string, error) {
			began <- struct{}{}
			<-stop
			return "", nil
		})
	}
	for range 32 {
		receive(t, began, "a loader")
	}
	return stop
}

// The same with a real Redis, which hangs for a while: the value is there, or the loader runs with its help.
func TestQueueEndsWhenRedisGoesOn(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := newCache[string](t, newStore(t, newClient(t, server.Addr())))
	require.NoError(t, c.Set(t.Context(), "k", "stored"))
	server.Stop()
	defer close(occupy(t, c))
	loader, _ := loads("loaded")
	there, missing := kAsync(t.Context(), c, never), async(t.Context(), c, "other", loader)
	many := manyAsync(t.Context(), c, never)
	requireCallers(t, c, "k", 2)
	requireCallers(t, c, "other", 1)
	server.Continue()
	for _, ch := range []<-chan outcome[string]{there, many} {
		out := receive(t, ch, "a caller")
		require.NoError(t, out.err)
		assert.Equal(t, "stored", out.item.Value)
	}
	out := receive(t, missing, "a caller")
	require.NoError(t, out.err)
	assert.Equal(t, "loaded", out.item.Value)
	v, err := c.Get(t.Context(), "other")
	require.NoError(t, err, "it was stored")
	assert.Equal(t, "loaded", v)
}

// With a real Redis that is gone, those who come late get what is stale in the near cache, as those before them.
func TestLateCallersGetWhatIsStaleWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := newCache[string](t, newStore(t, newClient(t, server.Addr())), store.WithTTL(500*time.Millisecond), store.WithStale(time.Hour),
		store.WithNear(100, time.Second))
	require.NoError(t, c.Set(t.Context(), "k", "old"))
	require.Eventually(t, func() bool {
		item, err := c.GetItem(t.Context(), "k")
		if err != nil {
			assert.NoError(t, c.Set(t.Context(), "k", "old"))
		}
		return err == nil && item.Source == store.SourceNear
	}, patience, tick)
	require.Eventually(t, func() bool {
		_, err := c.Get(t.Context(), "k")
		return errors.Is(err, store.ErrNotFound)
	}, patience, tick)
	loader := newGated[string]()
	early := kAsync(t.Context(), c, loader.load)
	receive(t, loader.began, "the load")
	late := []<-chan outcome[string]{kAsync(t.Context(), c, never), manyAsync(t.Context(), c, never)}
	requireCallers(t, c, "k", 3)
	server.Kill()
	loader.give("", errDatabase)
	for _, ch := range append(late, early) {
		out := receive(t, ch, "a caller")
		require.NoError(t, out.err)
		assert.Equal(t, "old", out.item.Value)
	}
}

// A caller that gives up before Redis has answered takes nobody with it: what it has begun goes on for those who wait.
func TestGivingUpEndsNothingForOthers(t *testing.T) {
	t.Parallel()
	for call, begin := range map[string]func(
		context.Context, *store.Cache[string], func(context.Context) (string, error), ...store.Option,
	) <-chan outcome[string]{"one": kAsync, "many": manyAsync} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			server, c := setupCache[string](t)
			server.Stop()
			ctx, cancel := context.WithCancel(t.Context())
			loader, count := loads("v")
			impatient := begin(ctx, c, loader)
			requireCallers(t, c, "k", 1)
			patient := begin(t.Context(), c, never)
			requireCallers(t, c, "k", 2)
			cancel()
			require.ErrorIs(t, receive(t, impatient, "who gives up").err, context.Canceled)
			server.Continue()
			out := receive(t, patient, "the patient caller")
			require.NoError(t, out.err)
			assert.Equal(t, "v", out.item.Value)
			assert.EqualValues(t, 1, count.Load())
		})
	}
}

// A Redis that refuses to write answers, so nobody waits for that: the queue ends as the time-outs say.
func TestQueueOfARedisThatRefuses(t *testing.T) {
	t.Parallel()
	for call, begin := range map[string]func(
		context.Context, *store.Cache[string], func(context.Context) (string, error), ...store.Option,
	) <-chan outcome[string]{"one": kAsync, "many": manyAsync} {
		for _, timeout := range []store.Option{store.WithHardTimeout(1200 * time.Millisecond), store.WithSoftTimeout(1200 * time.Millisecond)} {
			t.Run(fmt.Sprint(call, " ", timeout), func(t *testing.T) {
				t.Parallel()
				server := redistest.Start(t)
				c := newCache[string](t, newStore(t, newClient(t, server.Addr())))
				require.NoError(t, server.Client(t).ConfigSet(t.Context(), "maxmemory", "1").Err())
				defer close(occupy(t, c))
				ctx, cancel := context.WithTimeout(t.Context(), patience/2)
				defer cancel()
				out := receive(t, begin(ctx, c, never, timeout), "the end of the queue")
				require.ErrorIs(t, out.err, store.ErrOverloaded)
				require.NoError(t, ctx.Err())
			})
		}
	}
}

// heldRead holds up one read, until its caller gives up.
type heldRead struct {
	redistest.Hook

	armed   atomic.Bool
	reached chan struct{}
}

func (h *heldRead) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "time" && h.armed.CompareAndSwap(true, false) {
			h.reached <- struct{}{}
			<-ctx.Done()
		}
		return next(ctx, cmds)
	}
}

// A caller gets nothing of a load that had ended before it came, although who looks again for both has waited for that one, and
// gives up.
func TestWhoGivesUpLeavesNoFailure(t *testing.T) {
	t.Parallel()
	for call, begin := range map[string]func(
		context.Context, *store.Cache[string], func(context.Context) (string, error), ...store.Option,
	) <-chan outcome[string]{"one": kAsync, "many": manyAsync} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			client, h := newClient(t, redistest.Start(t).Addr()), &heldRead{reached: make(chan struct{}, 1)}
			client.AddHook(h)
			c := newCache[string](t, newCacheStore(t, client), store.WithFailurePause(0), store.WithTags("tag"))
			failing, again := newGated[string](), newGated[string]()
			first := begin(t.Context(), c, failing.load)
			receive(t, failing.began, "the load")
			ctx, cancel := context.WithCancel(t.Context())
			impatient := begin(ctx, c, again.load)
			requireCallers(t, c, "k", 2)
			h.armed.Store(true)
			failing.give("", errDatabase)
			require.ErrorIs(t, receive(t, first, "the first").err, errDatabase)
			receive(t, h.reached, "the second look")
			patient := begin(t.Context(), c, never)
			requireCallers(t, c, "k", 2)
			cancel()
			require.ErrorIs(t, receive(t, impatient, "who gives up").err, context.Canceled)
			again.give("v", nil)
			out := receive(t, patient, "who came later")
			require.NoError(t, out.err)
			assert.Equal(t, "v", out.item.Value)
		})
	}
}

// linked reports whether a replica has its master's data.
func linked(t *testing.T, client *redis.Client) bool {
	t.Helper()
	return strings.Contains(client.Info(t.Context(), "replication").Val(), "master_link_status:up")
}

// Where Redis says that there is no value, and then refuses to have one loaded, the near cache has nothing to say either: it may
// not have heard of the change. So it is with connections to a former master.
func TestNearHasNothingWhereRedisAnswers(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(ctx context.Context, c *store.Cache[string]) error{
		"delete":     func(ctx context.Context, c *store.Cache[string]) error { return c.Delete(ctx, "k") },
		"invalidate": func(ctx context.Context, c *store.Cache[string]) error { return c.InvalidateTag(ctx, "tag") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			former, master := redistest.Start(t), redistest.Start(t)
			follow := func(replica, master *redistest.Server) {
				require.NoError(t, replica.Client(t).ReplicaOf(t.Context(), master.Host(), master.Port()).Err())
			}
			follow(master, former)
			ctx, client := t.Context(), newClient(t, former.Addr())
			opts := []store.Option{store.WithNear(100, 100*time.Millisecond), store.WithStale(time.Hour), store.WithTags("tag")}
			c := newCache[string](t, newStore(t, client), opts...)
			require.NoError(t, c.Set(ctx, "k", "old"))
			require.Eventually(t, func() bool {
				item, err := c.GetItem(ctx, "k")
				return err == nil && item.Source == store.SourceNear
			}, patience, tick)
			require.Eventually(t, func() bool { return master.Client(t).DBSize(ctx).Val() == former.Client(t).DBSize(ctx).Val() }, patience, tick)
			require.NoError(t, master.Client(t).ReplicaOf(ctx, "no", "one").Err())
			follow(former, master)
			require.Eventually(t, func() bool {
				item, err := c.GetItem(ctx, "k")
				return err == nil && item.Source == store.SourceRedis && linked(t, client)
			}, patience, tick, "the near cache hears of no changes")
			require.NoError(t, change(ctx, newCache[string](t, newStore(t, newClient(t, master.Addr())), store.WithTags("tag"))))
			require.Eventually(t, func() bool {
				_, err := c.Get(ctx, "k")
				return errors.Is(err, store.ErrNotFound)
			}, patience, tick)
			loader, _ := loads("new")
			v, err := c.GetOrLoad(ctx, "k", loader)
			require.NoError(t, err)
			assert.Equal(t, "new", v)
		})
	}
}
