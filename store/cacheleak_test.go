package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// A process that waits for another one's early refresh gets the lease when that is revoked. It gives it back: there is nothing to
// refresh, and nobody could load while it is held.
func TestEarlyRefreshKeepsNoLease(t *testing.T) {
	t.Parallel()
	server, a, b := two[string](t, store.WithTTL(time.Hour), store.WithEarly(0.5))
	client := server.Client(t)
	aged(t, client, "v", time.Hour, 20*time.Minute)
	g := newGated[string]()
	_, err := a.GetOrLoad(t.Context(), "k", g.load)
	require.NoError(t, err)
	receive(t, g.began, "the refresh")
	_, err = b.GetOrLoad(t.Context(), "k", never[string]) // waits in the background
	require.NoError(t, err)
	require.Eventually(t, func() bool { // its inbox is in the lease
		return strings.Count(client.Get(t.Context(), leaseOfK).Val(), "\n") == 2
	}, patience, tick)
	require.NoError(t, a.Delete(t.Context(), "k"))
	require.Eventually(t, func() bool { return client.Exists(t.Context(), leaseOfK).Val() == 0 }, patience, tick)
	g.give("x", nil)
	loader, _ := loads("fresh")
	v, err := a.GetOrLoad(t.Context(), "k", loader)
	require.NoError(t, err)
	assert.Equal(t, "fresh", v)
}

// interceptor is a hook that calls a function around each command and pipeline whose text contains a word.
type interceptor struct {
	redistest.Hook

	mu   sync.Mutex
	word string
	f    func(text string, next func() error) error
}

func (i *interceptor) set(word string, f func(text string, next func() error) error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.word, i.f = word, f
}

func (i *interceptor) around(text string, next func() error) error {
	i.mu.Lock()
	word, f := i.word, i.f
	i.mu.Unlock()
	if f == nil || !strings.Contains(text, word) {
		return next()
	}
	return f(text, next)
}

func (i *interceptor) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return i.around(fmt.Sprint(cmd.Args()...), func() error { return next(ctx, cmd) })
	}
}

// The reply to a Set may come after a later Delete has failed. That still has to be repeated, as it may be what the Set stored
// that is to be deleted.
func TestLateReplyEndsNoRepetition(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := newClient(t, server.Addr())
	hook := new(interceptor)
	client.AddHook(hook)
	c := newCache[string](t, newStore(t, client), store.WithTTL(time.Hour))
	require.NoError(t, c.Set(t.Context(), "other", "")) // the server knows the scripts from then on
	require.NoError(t, c.Delete(t.Context(), "other"))
	executed, proceed := make(chan struct{}), make(chan struct{})
	hook.set("{k}", func(_ string, next func() error) error {
		err := next()
		close(executed)
		<-proceed
		return err
	})
	done := make(chan error, 1)
	go func() { done <- c.Set(context.WithoutCancel(t.Context()), "k", "old") }()
	receive(t, executed, "the Set")
	hook.set("{k}", func(string, func() error) error { return errors.New("broken") })
	require.Error(t, c.Delete(t.Context(), "k"))
	require.Equal(t, 1, store.Pending(c))
	close(proceed)
	require.NoError(t, receive(t, done, "its reply"))
	hook.set("", nil)
	require.Eventually(t, func() bool { return store.Pending(c) == 0 }, patience, tick)
	_, err := c.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrNotFound)
}

// exiting is JSON that ends its goroutine on request.
type exiting struct {
	store.JSON

	exits *atomic.Bool
}

func (e exiting) Marshal(v any) ([]byte, error) {
	if e.exits.Load() {
		runtime.Goexit()
	}
	return json.Marshal(v)
}

// A codec that ends its goroutine does not strand keys that LoadMany loads after another process was to.
func TestCodecThatEndsTheGoroutineOfLateKeys(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := newCache[string](t, newCacheStore(t, newClient(t, server.Addr())))
	exits := new(atomic.Bool)
	b := newCache[string](t, newCacheStore(t, newClient(t, server.Addr())), store.WithCodec(exiting{exits: exits}))
	exits.Store(true)
	g := newGated[string]()
	keys := make([]string, 10)
	for i := range keys {
		keys[i] = fmt.Sprint("k", i)
		async(t.Context(), a, keys[i], g.load)
		receive(t, g.began, "the load")
	}
	l := &table{rows: map[string]string{}}
	for _, key := range keys {
		l.rows[key] = "v"
	}
	done := make(chan error, 1)
	go func() {
		_, err := b.LoadMany(t.Context(), keys, l.load)
		done <- err
	}()
	client := server.Client(t)
	require.Eventually(t, func() bool { // b waits for all of them
		for i := range keys {
			if strings.Count(client.Get(t.Context(), "cache:l:"+name+fmt.Sprintf(":{k%d}", i)).Val(), "\n") < 2 {
				return false
			}
		}
		return true
	}, patience, tick)
	for i, key := range keys { // one call after the other comes to nothing
		require.NoError(t, a.Delete(t.Context(), key))
		require.Eventually(t, func() bool {
			n := 0
			for _, call := range l.calls() {
				n += len(call)
			}
			return n > i
		}, patience, tick)
	}
	require.ErrorIs(t, receive(t, done, "LoadMany"), store.ErrPanic)
	for range keys {
		g.give("v", nil)
	}
}

// A loader that began while Redis answered may need another key when it does not any more, and all loaders that may run without
// Redis wait for the first one.
func TestLoaderFromBeforeAnOutageMayAskForOthers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := newCache[string](t, newStore(t, newClient(t, server.Addr())), store.WithHardTimeout(2*patience))
	ready, release := make(chan struct{}), make(chan struct{})
	first := async(t.Context(), c, "first", func(ctx context.Context) (string, error) {
		close(ready)
		<-release
		loader, _ := loads("v")
		return c.GetOrLoad(ctx, "other", loader)
	})
	receive(t, ready, "the first loader")
	server.Kill()
	require.Eventually(t, func() bool {
		_, err := c.Get(t.Context(), "k")
		return err != nil && store.BreakersOpen(c) == 1
	}, patience, tick)
	var others []<-chan outcome[string]
	for i := range 32 {
		others = append(others, async(t.Context(), c, fmt.Sprint(i), func(ctx context.Context) (string, error) {
			return c.GetOrLoad(ctx, "first", never[string])
		}))
	}
	requireCallers(t, c, "first", 1+len(others))
	close(release)
	for _, ch := range append(others, first) {
		require.NoError(t, receive(t, ch, "a value").err)
	}
}
