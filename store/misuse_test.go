package store_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// refused expects an error about an argument.
func refused(t *testing.T, err error, argument string) {
	t.Helper()
	require.ErrorIs(t, err, store.ErrInvalidArgument, argument)
	var wrong *store.ArgumentError
	require.ErrorAs(t, err, &wrong)
	assert.Equal(t, argument, wrong.Argument)
	assert.NotEmpty(t, wrong.Reason)
}

func TestNewRefusesArguments(t *testing.T) {
	t.Parallel()
	client := newClient(t, "localhost:1") // nothing is sent
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "localhost:1"}})
	t.Cleanup(func() { _ = ring.Close() })
	for _, c := range []redis.UniversalClient{nil, (*redis.Client)(nil), &redis.Client{}, ring} {
		_, err := store.New(c)
		refused(t, err, "client")
	}
	for argument, opts := range map[string][]store.Option{
		"opts[1]":          {store.WithName("x"), {}},
		"WithKeyPrefix":    {store.WithKeyPrefix("a{}b:")},
		"WithName":         {store.WithName("\xff")},
		"WithTimeout":      {store.WithTimeout(0)},
		"WithStateTimeout": {store.WithStateTimeout(-1)},
		"WithTTL":          {store.WithTTL(time.Second)},
		"IfVersion":        {store.IfVersion(1)},
		"WithCodec":        {store.WithCodec(store.JSON{})},
	} {
		_, err := store.New(client, opts...)
		refused(t, err, argument)
	}
	for _, prefix := range []string{"a{", "{}", "a{b", "{}{a}"} {
		_, err := store.New(client, store.WithKeyPrefix(prefix))
		refused(t, err, "WithKeyPrefix")
	}
	_, err := store.New(client, store.WithStateTimeout(time.Hour))
	refused(t, err, "WithStateTimeout")
	for _, prefix := range []string{"", "a:", "}", "{a}:", "x{a}y{"} {
		_, err := store.New(client, store.WithKeyPrefix(prefix), store.WithLogger(nil), store.WithTracerProvider(nil))
		require.NoError(t, err)
	}
}

func TestNewStateRefusesArguments(t *testing.T) {
	t.Parallel()
	s := newStore(t, newClient(t, "localhost:1"))
	for _, bad := range []string{"", "a:b", "{", "}", "*", "?", "[", "]", `\`, "a\n", "\x00", "\x7f", "\xff"} {
		_, err := store.NewState[int](s, bad)
		refused(t, err, "name")
	}
	for _, good := range []string{"a", "a b", "ü", "a/b", "a.b-c_d", "日本"} {
		_, err := store.NewState[int](s, good)
		require.NoError(t, err)
		_, err = store.NewState[string](s, good)
		require.NoError(t, err)
	}
	for _, none := range []*store.Store{nil, {}} {
		_, err := store.NewState[int](none, "a")
		refused(t, err, "Store")
	}
	for argument, option := range map[string]store.Option{
		"opts[0]":          {},
		"WithTTL":          store.WithTTL(-time.Second),
		"WithCodec":        store.WithCodec(nil),
		"WithCompression":  store.WithCompression(0),
		"WithMaxSize":      store.WithMaxSize(0),
		"WithGroup":        store.WithGroup(nil),
		"WithSliding":      store.WithSliding(),
		"WithName":         store.WithName("a"),
		"WithKeyPrefix":    store.WithKeyPrefix("a"),
		"WithTimeout":      store.WithTimeout(1),
		"WithStateTimeout": store.WithStateTimeout(1),
		"WithFence":        store.WithFence(1),
		"IfVersion":        store.IfVersion(1),
	} {
		_, err := store.NewState[int](s, "a", option)
		refused(t, err, argument)
	}
	for argument, options := range map[string][]store.Option{
		"WithTTL":     {store.WithTTL(time.Millisecond - 1), store.WithTTL(math.MaxInt64)},
		"WithMaxSize": {store.WithMaxSize(-1), store.WithMaxSize(1 << 30)},
		"WithCodec": {
			store.WithCodec((*gobs)(nil)), store.WithCodec(gobs{'-'}), store.WithCodec(gobs{' '}), store.WithCodec(gobs{0}),
			store.WithCodec(gobs{'\n'}), store.WithCodec(gobs{0xff}),
		},
	} {
		for _, option := range options {
			_, err := store.NewState[int](s, "a", option)
			refused(t, err, argument)
		}
	}
}

func TestCallsRefuseArguments(t *testing.T) {
	t.Parallel()
	server, st := setup[int](t)
	ctx := t.Context()
	version := put(t, st, "k", 1)
	nothing := func(*int) error { return nil }
	calls := func(st *store.State[int], ctx context.Context, key string, opts ...store.Option) map[string]error {
		errs := make(map[string]error)
		_, errs["get"] = st.Get(ctx, key)
		_, errs["create"] = st.Create(ctx, key, 1, opts...)
		_, errs["put"] = st.Put(ctx, key, 1, opts...)
		_, errs["update"] = st.Update(ctx, key, nothing, opts...)
		errs["delete"] = st.Delete(ctx, key, opts...)
		if len(opts) == 0 { // these take none
			errs["touch"] = st.Touch(ctx, key, time.Hour)
			for _, err := range st.List(ctx, key) {
				errs["list"] = err
				break
			}
		}
		return errs
	}
	server.ResetCommands(t)
	for _, none := range []*store.State[int]{nil, {}} {
		for _, err := range calls(none, ctx, "k") {
			refused(t, err, "State")
		}
	}
	for _, err := range calls(st, nil, "k") {
		refused(t, err, "ctx")
	}
	errs := calls(st, ctx, "")
	require.NoError(t, errs["list"])
	delete(errs, "list")
	for _, err := range errs {
		refused(t, err, "key")
	}
	for argument, options := range map[string][]store.Option{
		"opts[0]":     {{}},
		"WithFence":   {store.WithFence(0), store.WithFence(-1), store.WithFence(1 << 53), store.WithFence(math.MaxInt64)},
		"WithSliding": {store.WithSliding()},
		"WithName":    {store.WithName("a")},
		"WithMaxSize": {store.WithMaxSize(1)},
	} {
		for _, option := range options {
			errs := calls(st, ctx, "k", option)
			for _, op := range []string{"create", "put", "update", "delete"} {
				refused(t, errs[op], argument)
			}
		}
	}
	_, err := st.Put(ctx, "k", 1, store.IfVersion(-1))
	refused(t, err, "IfVersion")
	_, err = st.Create(ctx, "k", 1, store.IfVersion(1))
	refused(t, err, "IfVersion")
	_, err = st.Update(ctx, "k", nothing, store.IfVersion(1))
	refused(t, err, "IfVersion")
	refused(t, st.Delete(ctx, "k", store.WithTTL(time.Hour)), "WithTTL")
	_, err = st.Put(ctx, "k", 1, store.WithTTL(-1))
	refused(t, err, "WithTTL")
	for _, ttl := range []time.Duration{-1, 1, math.MaxInt64} {
		refused(t, st.Touch(ctx, "k", ttl), "ttl")
	}
	_, err = st.Update(ctx, "k", nil)
	refused(t, err, "fn")
	assert.Zero(t, server.Commands(t)["evalsha"])
	assert.Equal(t, version, get(t, st, "k").Version)
	_, err = st.Put(ctx, "k", 2, store.IfVersion(math.MaxInt64))
	require.ErrorIs(t, err, store.ErrConflict)
}

func TestClosedStore(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, err := store.New(newClient(t, server.Addr()))
	require.NoError(t, err)
	ctx := t.Context()
	refused(t, s.Close(nil), "ctx")       //nolint:staticcheck // that is the test
	refused(t, s.HealthCheck(nil), "ctx") //nolint:staticcheck // that is the test
	for _, none := range []*store.Store{nil, {}} {
		refused(t, none.Close(ctx), "Store")
		refused(t, none.HealthCheck(ctx), "Store")
		assert.NotNil(t, none.Collector())
	}
	require.NoError(t, s.HealthCheck(ctx))
	st := newState[int](t, s)
	put(t, st, "k", 1)

	entered, leave := make(chan struct{}), make(chan struct{})
	var updating sync.WaitGroup
	updating.Go(func() {
		_, err := st.Update(ctx, "k", func(v *int) error {
			close(entered)
			<-leave
			*v = 2
			return nil
		})
		assert.NoError(t, err)
	})
	<-entered
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Close(short), context.DeadlineExceeded)
	_, err = st.Get(ctx, "k")
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = st.Create(ctx, "k", 1)
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = st.Put(ctx, "k", 1)
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = st.Update(ctx, "k", func(*int) error { return nil })
	require.ErrorIs(t, err, store.ErrClosed)
	require.ErrorIs(t, st.Delete(ctx, "k"), store.ErrClosed)
	require.ErrorIs(t, st.Touch(ctx, "k", 0), store.ErrClosed)
	require.ErrorIs(t, s.HealthCheck(ctx), store.ErrClosed)
	_, err = store.NewState[int](s, "another")
	require.ErrorIs(t, err, store.ErrClosed)
	close(leave)
	var closing sync.WaitGroup
	for range 3 {
		closing.Go(func() { assert.NoError(t, s.Close(ctx)) })
	}
	closing.Wait()
	updating.Wait()
	require.NoError(t, s.Close(ctx))
}

// TestPanicsLeaveNothingBehind: a function or codec of the caller that panics does not keep Close waiting.
func TestPanicsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	s := newStore(t, newClient(t, redistest.Start(t).Addr()))
	st := newState[int](t, s, store.WithGroup(func(key string) string {
		if key == "bad" {
			panic("group")
		}
		return "g"
	}))
	assert.PanicsWithValue(t, "group", func() { _, _ = st.Get(t.Context(), "bad") })
	put(t, st, "k", 1)
	assert.PanicsWithValue(t, "fn", func() {
		_, _ = st.Update(t.Context(), "k", func(*int) error { panic("fn") })
	})
	require.NoError(t, s.Close(t.Context()))
}

// TestPrinting: values are not shown, whatever the verb.
func TestPrinting(t *testing.T) {
	t.Parallel()
	type secret struct{ Password string }
	_, st := setup[secret](t)
	version := put(t, st, "k", secret{"hunter2"})
	_, err := st.Create(t.Context(), "k", secret{"hunter2"})
	var conflict *store.ConflictError[secret]
	require.ErrorAs(t, err, &conflict)
	item := get(t, st, "k")
	item.Stale, item.Source = true, store.SourceStale
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		assert.Contains(t, fmt.Sprintf(verb, item), fmt.Sprint(version))
		assert.Contains(t, fmt.Sprintf(verb, &item), "stale")
		assert.Contains(t, fmt.Sprintf(verb, st), name)
		for _, shown := range []any{item, &item, st, *st, conflict, conflict.Current, []any{item}} {
			text := fmt.Sprintf(verb, shown)
			assert.NotContains(t, text, "hunter2", verb)
			assert.NotContains(t, text, fmt.Sprintf("%x", "hunter2"), verb)
		}
	}
	assert.Contains(t, err.Error(), `"k"`)
	assert.NotContains(t, err.Error(), "hunter2")
	assert.Contains(t, fmt.Sprint((*store.State[int])(nil), (*store.Store)(nil), &store.Store{}), "never made")
}
