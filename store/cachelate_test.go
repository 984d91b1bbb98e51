package store_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
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

// bubbleOfTwo runs f in a bubble, with the Caches of what stands for two processes.
func bubbleOfTwo(t *testing.T, f func(t *testing.T, a, b *store.Cache[string]), opts ...store.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := embedded.New()
		client := redis.NewClient(&redis.Options{
			ContextTimeoutEnabled: true, Dialer: server.Dial,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		first, second := must(store.New(client)), must(store.New(client))
		defer func() {
			require.NoError(t, first.Close(t.Context()))
			require.NoError(t, second.Close(t.Context()))
			_ = client.Close()
			_ = server.Close()
			time.Sleep(time.Minute) // in a bubble: a client may still be trying to dial in the background
		}()
		f(t, newCache[string](t, first, opts...), newCache[string](t, second, opts...))
	})
}

// manyAsync has LoadMany called in the background, for k alone.
func manyAsync(
	ctx context.Context, c *store.Cache[string], loader func(context.Context) (string, error), opts ...store.Option,
) <-chan outcome[string] {
	ch := make(chan outcome[string], 1)
	go func() {
		values, err := c.LoadMany(ctx, []string{"k"}, func(ctx context.Context, _ []string) (map[string]string, error) {
			v, err := loader(ctx)
			return map[string]string{"k": v}, err
		}, opts...)
		ch <- outcome[string]{store.Item[string]{Value: values["k"]}, err}
	}()
	return ch
}

// kAsync is async for k.
func kAsync(
	ctx context.Context, c *store.Cache[string], loader func(context.Context) (string, error), opts ...store.Option,
) <-chan outcome[string] {
	return async(ctx, c, "k", loader, opts...)
}

// Whoever joins a load after another process has deleted the value does not get the outdated one, as those do who came before.
func TestLateCallersGetNothingDeleted(t *testing.T) {
	t.Parallel()
	for how, remove := range map[string]func(context.Context, *store.Cache[string]) error{
		"delete":     func(ctx context.Context, a *store.Cache[string]) error { return a.Delete(ctx, "k") },
		"clear":      func(ctx context.Context, a *store.Cache[string]) error { return a.Clear(ctx) },
		"invalidate": func(ctx context.Context, a *store.Cache[string]) error { return a.InvalidateTag(ctx, "tag") },
	} {
		for call, begin := range map[string]func(
			context.Context, *store.Cache[string], func(context.Context) (string, error), ...store.Option,
		) <-chan outcome[string]{"one": kAsync, "many": manyAsync} {
			t.Run(how+" "+call, func(t *testing.T) {
				t.Parallel()
				bubbleOfTwo(t, func(t *testing.T, a, b *store.Cache[string]) {
					t.Helper()
					require.NoError(t, a.Set(t.Context(), "k", "old"))
					time.Sleep(2 * time.Minute) // in a bubble
					loader := newGated[string]()
					early := begin(t.Context(), b, loader.load)
					receive(t, loader.began, "the load")
					impatient := begin(t.Context(), b, never, store.WithSoftTimeout(time.Minute/4))
					time.Sleep(time.Second) // in a bubble
					require.NoError(t, remove(t.Context(), a))
					time.Sleep(time.Second) // in a bubble
					late := begin(t.Context(), b, never, store.WithSoftTimeout(time.Second))
					time.Sleep(5 * time.Second) // in a bubble
					select {
					case out := <-late:
						assert.Fail(t, "the soft time-out", "%v %v", out.item.Value, out.err)
					default:
					}
					loader.give("", errDatabase)
					for _, ch := range []<-chan outcome[string]{early, impatient} {
						if out := receive(t, ch, "who came before"); assert.NoError(t, out.err) {
							assert.Equal(t, "old", out.item.Value)
						}
					}
					out := receive(t, late, "who came later")
					require.ErrorIs(t, out.err, errDatabase, "%v", out.item.Value)
				}, store.WithTTL(time.Minute), store.WithStale(time.Hour), store.WithTags("tag"))
			})
		}
	}
}

// Whoever joins a load after another process has set a value gets that, when the load fails or takes too long.
func TestLateCallersGetWhatWasSet(t *testing.T) {
	t.Parallel()
	for _, stale := range []time.Duration{0, time.Hour} {
		for _, soft := range []time.Duration{0, time.Second} {
			bubbleOfTwo(t, func(t *testing.T, a, b *store.Cache[string]) {
				t.Helper()
				require.NoError(t, a.Set(t.Context(), "k", "old"))
				time.Sleep(2 * time.Minute) // in a bubble
				loader := newGated[string]()
				early := kAsync(t.Context(), b, loader.load)
				receive(t, loader.began, "the load")
				time.Sleep(time.Second) // in a bubble
				require.NoError(t, a.Set(t.Context(), "k", "new"))
				time.Sleep(time.Second) // in a bubble
				var late []<-chan outcome[string]
				for range 3 {
					late = append(late, kAsync(t.Context(), b, never, store.WithSoftTimeout(soft)),
						manyAsync(t.Context(), b, never, store.WithSoftTimeout(soft)))
				}
				if soft == 0 || stale == 0 {
					synctest.Wait()
					loader.give("", errDatabase)
				}
				for _, ch := range late {
					out := receive(t, ch, "who came later")
					require.NoError(t, out.err)
					assert.Equal(t, "new", out.item.Value)
				}
				out := receive(t, early, "who came before")
				switch {
				case stale == 0:
					require.ErrorIs(t, out.err, errDatabase)
				case soft == 0:
					assert.Equal(t, "old", out.item.Value)
				default:
					assert.Equal(t, "new", out.item.Value, "which others have found")
					loader.give("", errDatabase)
				}
			}, store.WithTTL(time.Minute), store.WithStale(stale))
		}
	}
}

// A failure is shared by those who came later, too, as long as nobody has written: the stale value is what it was.
func TestLateCallersShareAFailure(t *testing.T) {
	t.Parallel()
	for _, tags := range [][]string{nil, {"tag"}} {
		bubbleOfTwo(t, func(t *testing.T, a, b *store.Cache[string]) {
			t.Helper()
			require.NoError(t, a.Set(t.Context(), "k", "old"))
			time.Sleep(2 * time.Minute) // in a bubble
			loader := newGated[string]()
			callers := []<-chan outcome[string]{kAsync(t.Context(), b, loader.load)}
			receive(t, loader.began, "the load")
			for range 3 {
				time.Sleep(time.Second) // in a bubble
				callers = append(callers, kAsync(t.Context(), b, never), manyAsync(t.Context(), b, never))
			}
			slow := receive(t, kAsync(t.Context(), b, never, store.WithSoftTimeout(time.Second)), "a caller that does not wait")
			require.ErrorIs(t, slow.item.Cause, store.ErrLoadTimeout)
			loader.give("", errDatabase)
			for _, ch := range callers {
				out := receive(t, ch, "a caller")
				require.NoError(t, out.err)
				assert.Equal(t, "old", out.item.Value)
			}
			again, count := loads("new")
			v, err := b.GetOrLoad(t.Context(), "k", again)
			require.NoError(t, err)
			assert.Equal(t, "new", v)
			assert.EqualValues(t, 1, count.Load(), "without a pause whoever comes next loads")
		}, store.WithTTL(time.Minute), store.WithStale(time.Hour), store.WithTags(tags...), store.WithFailurePause(0))
	}
}

// beforeScript calls f, once, before the next script of a client is sent.
type beforeScript struct {
	redistest.Hook

	armed atomic.Bool
	f     func()
}

func (b *beforeScript) at(cmds ...redis.Cmder) {
	for _, cmd := range cmds {
		if strings.HasPrefix(cmd.Name(), "eval") && b.armed.CompareAndSwap(true, false) {
			b.f()
		}
	}
}

func (b *beforeScript) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		b.at(cmd)
		return next(ctx, cmd)
	}
}

func (b *beforeScript) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		b.at(cmds...)
		return next(ctx, cmds)
	}
}

// A value that another process deletes after a load has read it, and before the load has its lease, is not for those who come
// after the Delete, whichever process the loader fails in.
func TestLateCallersGetNothingDeletedBeforeTheLease(t *testing.T) {
	t.Parallel()
	for call, begin := range map[string]func(
		context.Context, *store.Cache[string], func(context.Context) (string, error), ...store.Option,
	) <-chan outcome[string]{"one": kAsync, "many": manyAsync} {
		for _, where := range []string{"here", "elsewhere"} {
			t.Run(call+" "+where, func(t *testing.T) {
				t.Parallel()
				opts := []store.Option{store.WithTTL(50 * time.Millisecond), store.WithStale(time.Hour)}
				server, a := setupCache[string](t, opts...)
				client := newClient(t, server.Addr())
				b := newCache[string](t, newCacheStore(t, client), opts...)
				ctx, loader := t.Context(), newGated[string]()
				h := &beforeScript{f: func() {
					assert.NoError(t, a.Delete(ctx, "k"))
					if where == "elsewhere" {
						kAsync(ctx, a, loader.load)
						receive(t, loader.began, "the load")
					}
				}}
				client.AddHook(h)
				require.NoError(t, a.Set(ctx, "k", "old"))
				require.Eventually(t, func() bool {
					_, err := a.Get(ctx, "k")
					return errors.Is(err, store.ErrNotFound)
				}, patience, tick)
				h.armed.Store(true)
				early := begin(ctx, b, loader.load)
				if where == "elsewhere" {
					requireWaiting(t, b)
				} else {
					receive(t, loader.began, "the load")
				}
				require.False(t, h.armed.Load())
				late := begin(ctx, b, loader.load)
				requireCallers(t, b, "k", 2)
				loader.give("", errDatabase)
				receive(t, early, "who came before")
				out := receive(t, late, "who came later")
				require.Error(t, out.err, "%v", out.item)
			})
		}
	}
}
