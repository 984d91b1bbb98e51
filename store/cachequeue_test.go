package store_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
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

// cable leads to a server, and can be cut.
type cable struct {
	server *embedded.Server

	mu    sync.Mutex // guards what follows
	isCut bool
	conns []net.Conn
}

func (c *cable) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isCut {
		return nil, errors.New("cut")
	}
	conn, err := c.server.Dial(ctx, network, address)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = false
}

// cabled runs f in a bubble, where hours cost nothing, with the Stores of what stands for two processes. The first one's cable can
// be cut.
func cabled(t *testing.T, f func(t *testing.T, a, b *store.Store, c *cable)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := embedded.New()
		c := &cable{server: server}
		client := func(dial func(ctx context.Context, network, address string) (net.Conn, error)) *redis.Client {
			return redis.NewClient(&redis.Options{
				ContextTimeoutEnabled: true, Dialer: dial, DialerRetries: 1,
				MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
			})
		}
		one, other := client(c.dial), client(server.Dial)
		a, b := must(store.New(one)), must(store.New(other))
		defer func() {
			require.NoError(t, a.Close(t.Context()))
			require.NoError(t, b.Close(t.Context()))
			_ = one.Close()
			_ = other.Close()
			_ = server.Close()
			time.Sleep(time.Minute) // in a bubble: a client may still be trying to dial in the background
		}()
		f(t, a, b, c)
	})
}

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
			out := receive(t, patient, "who waits")
			require.NoError(t, out.err)
			assert.Equal(t, "v", out.item.Value)
			assert.EqualValues(t, 1, count.Load())
		})
	}
}
