package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// same writes a value and expects to read the same.
func same[V any](t *testing.T, s *store.Store, what string, v V) {
	t.Helper()
	st := newState[V](t, s)
	_, err := st.Get(t.Context(), what)
	require.ErrorIs(t, err, store.ErrNotFound, what)
	version := put(t, st, what, v)
	item := get(t, st, what)
	assert.Equal(t, v, item.Value, what)
	assert.Equal(t, version, item.Version, what)
	assert.Equal(t, what, item.Key)
	require.NoError(t, st.Delete(t.Context(), what))
	item, err = st.Get(t.Context(), what)
	require.ErrorIs(t, err, store.ErrNotFound, what)
	assert.Equal(t, store.Item[V]{Key: what, Source: store.SourceRedis}, item)
}

// TestNullZeroAndAbsent: what is not there is never taken for a value that looks like nothing.
func TestNullZeroAndAbsent(t *testing.T) {
	t.Parallel()
	s := newStore(t, newClient(t, redistest.Start(t).Addr()))
	type thing struct {
		Name string `json:"name,omitempty"`
		Next *thing `json:"next,omitempty"`
	}
	zero := 0
	same(t, s, "a nil pointer", (*int)(nil))
	same(t, s, "a pointer to zero", &zero)
	same(t, s, "null", any(nil))
	same(t, s, "raw null", json.RawMessage("null"))
	same(t, s, "the empty string", "")
	same(t, s, "zero", 0)
	same(t, s, "false", false)
	same(t, s, "a zero struct", thing{})
	same(t, s, "a struct", thing{"a", &thing{"b", nil}})
	same(t, s, "a nil map", map[string]int(nil))
	same(t, s, "an empty map", map[string]int{})
	same(t, s, "a nil slice", []int(nil))
	same(t, s, "an empty slice", []int{})
	same(t, s, "bytes", []byte("a\x00\n\xff"))
	same(t, s, "a large integer in any", any(json.Number("9007199254740993")))
	same(t, s, "nested", map[string]any{"id": json.Number("18446744073709551615"), "list": []any{nil, "x", true}})
}

func TestCreate(t *testing.T) {
	t.Parallel()
	_, st := setup[string](t)
	version, err := st.Create(t.Context(), "k", "first")
	require.NoError(t, err)
	_, err = st.Create(t.Context(), "k", "second")
	require.ErrorIs(t, err, store.ErrExists)
	require.NotErrorIs(t, err, store.ErrConflict)
	var conflict *store.ConflictError[string]
	require.ErrorAs(t, err, &conflict)
	assert.True(t, conflict.Exists)
	assert.Equal(t, "first", conflict.Current.Value)
	assert.Equal(t, version, conflict.Current.Version)
	assert.NotContains(t, err.Error(), "first")
	require.NoError(t, st.Delete(t.Context(), "k"))
	again, err := st.Create(t.Context(), "k", "third")
	require.NoError(t, err)
	assert.Greater(t, again, version)
	assert.Equal(t, "third", get(t, st, "k").Value)
}

func TestIfVersion(t *testing.T) {
	t.Parallel()
	_, st := setup[string](t)
	ctx := t.Context()
	refused := func(err error, exists bool, current string) {
		t.Helper()
		require.ErrorIs(t, err, store.ErrConflict)
		require.NotErrorIs(t, err, store.ErrExists)
		var conflict *store.ConflictError[string]
		require.ErrorAs(t, err, &conflict)
		assert.Equal(t, exists, conflict.Exists)
		assert.Equal(t, current, conflict.Current.Value)
	}
	_, err := st.Put(ctx, "k", "a", store.IfVersion(17))
	refused(err, false, "")
	refused(st.Delete(ctx, "k", store.IfVersion(17)), false, "")
	require.NoError(t, st.Delete(ctx, "k", store.IfVersion(0)))
	one := put(t, st, "k", "one", store.IfVersion(0))
	_, err = st.Put(ctx, "k", "a", store.IfVersion(0))
	refused(err, true, "one")
	refused(st.Delete(ctx, "k", store.IfVersion(0)), true, "one")
	two := put(t, st, "k", "two", store.IfVersion(one))
	assert.Greater(t, two, one)
	_, err = st.Put(ctx, "k", "a", store.IfVersion(one))
	refused(err, true, "two")
	_, err = st.Put(ctx, "k", "a", store.IfVersion(two+1))
	refused(err, true, "two")
	refused(st.Delete(ctx, "k", store.IfVersion(one)), true, "two")
	require.NoError(t, st.Delete(ctx, "k", store.IfVersion(two)))
	_, err = st.Get(ctx, "k")
	require.ErrorIs(t, err, store.ErrNotFound)
}

// TestVersionsDoNotComeBack: a version that was read before a value went away is not that of the next value (ABA).
func TestVersionsDoNotComeBack(t *testing.T) {
	t.Parallel()
	for _, fence := range []bool{false, true} {
		for _, end := range []string{"deleted", "expired", "tombstone expired"} {
			t.Run(fmt.Sprint(end, ", fence ", fence), func(t *testing.T) {
				t.Parallel()
				server, st := setup[string](t)
				var opts []store.Option
				if fence {
					opts = append(opts, store.WithFence(7))
				}
				old := put(t, st, "k", "A", append(opts, store.WithTTL(50*time.Millisecond))...)
				switch end {
				case "deleted":
					require.NoError(t, st.Delete(t.Context(), "k"))
				case "tombstone expired":
					require.NoError(t, st.Delete(t.Context(), "k"))
					require.NoError(t, server.Client(t).Del(t.Context(), redisKey("k")).Err())
				default:
					gone(t, st, "k")
				}
				_, err := st.Put(t.Context(), "k", "B", store.IfVersion(old))
				require.ErrorIs(t, err, store.ErrConflict)
				next := put(t, st, "k", "A", opts...)
				assert.Greater(t, next, old)
				_, err = st.Put(t.Context(), "k", "B", store.IfVersion(old))
				require.ErrorIs(t, err, store.ErrConflict)
				require.ErrorIs(t, st.Delete(t.Context(), "k", store.IfVersion(old)), store.ErrConflict)
				assert.Equal(t, "A", get(t, st, "k").Value)
			})
		}
	}
}

// TestVersionsGrowWhenTheClockDoesNot: a server whose clock is behind that of the one that wrote before, as after a
// failover, continues from the version that is there, also if it was deleted.
func TestVersionsGrowWhenTheClockDoesNot(t *testing.T) {
	t.Parallel()
	server, st := setup[string](t)
	ahead := time.Now().Add(24 * time.Hour).UnixMicro()
	require.NoError(t, server.Client(t).Set(t.Context(), redisKey("k"), fmt.Sprintf("cs1 sj- %d 0 0 00 -\n\"x\"", ahead), 0).Err())
	item := get(t, st, "k")
	assert.Equal(t, store.Version(ahead), item.Version)
	assert.Zero(t, item.Age)
	one := put(t, st, "k", "y")
	assert.Equal(t, item.Version+1, one)
	require.NoError(t, st.Delete(t.Context(), "k"))
	assert.Equal(t, one+2, put(t, st, "k", "z"))
}

func TestTTL(t *testing.T) {
	t.Parallel()
	server, forever := setup[string](t)
	client := server.Client(t)
	hour, err := store.NewState[string](newStore(t, newClient(t, server.Addr())), "hour", store.WithTTL(time.Hour))
	require.NoError(t, err)
	lasts := func(key string, want time.Duration) {
		t.Helper()
		got, err := client.PTTL(t.Context(), key).Result()
		require.NoError(t, err)
		if want == 0 {
			assert.Equal(t, -time.Nanosecond, got)
			return
		}
		assert.InDelta(t, want.Seconds(), got.Seconds(), 60)
	}
	ctx, hourKey := t.Context(), "cache:v:hour:{k}"
	nothing := func(*string) error { return nil }
	put(t, forever, "k", "a")
	lasts(redisKey("k"), 0)
	put(t, forever, "k", "a", store.WithTTL(2*time.Hour))
	lasts(redisKey("k"), 2*time.Hour)
	_, err = forever.Update(ctx, "k", nothing)
	require.NoError(t, err)
	lasts(redisKey("k"), 2*time.Hour)
	_, err = forever.Update(ctx, "k", nothing, store.WithTTL(3*time.Hour))
	require.NoError(t, err)
	lasts(redisKey("k"), 3*time.Hour)
	put(t, forever, "k", "a")
	lasts(redisKey("k"), 0)
	_, err = forever.Update(ctx, "k", nothing)
	require.NoError(t, err)
	lasts(redisKey("k"), 0)

	put(t, hour, "k", "a")
	lasts(hourKey, time.Hour)
	put(t, hour, "k", "a", store.WithTTL(2*time.Hour))
	lasts(hourKey, 2*time.Hour)
	_, err = hour.Update(ctx, "k", nothing)
	require.NoError(t, err)
	lasts(hourKey, time.Hour)
	put(t, hour, "k", "a", store.WithTTL(0))
	lasts(hourKey, 0)
	before := get(t, hour, "k").Version
	require.NoError(t, hour.Touch(ctx, "k", 5*time.Hour))
	lasts(hourKey, 5*time.Hour)
	assert.Equal(t, before, get(t, hour, "k").Version)
	require.NoError(t, hour.Touch(ctx, "k", 0))
	lasts(hourKey, 0)
	require.ErrorIs(t, hour.Touch(ctx, "other", time.Hour), store.ErrNotFound)
	require.NoError(t, hour.Touch(ctx, "k", 20*time.Millisecond))
	gone(t, hour, "k")
	require.ErrorIs(t, hour.Touch(ctx, "k", time.Hour), store.ErrNotFound)
	_, err = hour.Create(ctx, "k", "b")
	require.NoError(t, err)
}

// TestDeletedKeysDoNotStay: a delete is remembered for seconds only.
func TestDeletedKeysDoNotStay(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, err := store.New(newClient(t, server.Addr()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	st := newState[string](t, s)
	put(t, st, "k", "a")
	require.NoError(t, st.Delete(t.Context(), "k"))
	left, err := server.Client(t).PTTL(t.Context(), redisKey("k")).Result()
	require.NoError(t, err)
	assert.LessOrEqual(t, left, 10*time.Second)
	require.NoError(t, st.Delete(t.Context(), "another"))
	assert.Zero(t, server.Client(t).Exists(t.Context(), redisKey("another")).Val())
}

// TestRoundTrips: each call takes one.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.New(t, redistest.Start(t).Addr())
	st := newState[int](t, newStore(t, newClient(t, proxy.Addr())))
	ctx := t.Context()
	var version store.Version
	calls := map[string]func() error{
		"get":     func() error { _, err := st.Get(ctx, "k"); return err },
		"create":  func() error { _, err := st.Create(ctx, time.Now().String(), 1); return err },
		"put":     func() (err error) { version, err = st.Put(ctx, "k", 1); return err },
		"touch":   func() error { return st.Touch(ctx, "k", time.Hour) },
		"delete":  func() error { return st.Delete(ctx, time.Now().String()) },
		"version": func() (err error) { version, err = st.Put(ctx, "k", 1, store.IfVersion(version)); return err },
	}
	put(t, st, "k", 1) // opens the connection
	for name, call := range calls {
		if name != "version" {
			require.NoError(t, call(), name) // the server knows the scripts then
		}
		require.NoError(t, calls["put"]())
		before := proxy.Requests()
		require.NoError(t, call(), name)
		assert.Equal(t, 1, proxy.Requests()-before, name)
	}
	before := proxy.Requests()
	_, err := st.Update(ctx, "k", func(v *int) error { *v++; return nil })
	require.NoError(t, err)
	assert.Equal(t, 2, proxy.Requests()-before, "update")
}

// TestContexts: a call ends with its context, and says whether a write may have been done.
func TestContexts(t *testing.T) {
	t.Parallel()
	server, st := setup[string](t)
	put(t, st, "k", "a")
	calls := map[string]func(ctx context.Context) error{
		"get":    func(ctx context.Context) error { _, err := st.Get(ctx, "k"); return err },
		"create": func(ctx context.Context) error { _, err := st.Create(ctx, "k", "b"); return err },
		"put":    func(ctx context.Context) error { _, err := st.Put(ctx, "k", "b"); return err },
		"delete": func(ctx context.Context) error { return st.Delete(ctx, "k") },
		"touch":  func(ctx context.Context) error { return st.Touch(ctx, "k", time.Hour) },
		"update": func(ctx context.Context) error {
			_, err := st.Update(ctx, "k", func(*string) error { return nil })
			return err
		},
		"list": func(ctx context.Context) error {
			for _, err := range st.List(ctx, "") {
				return err
			}
			return nil
		},
	}
	cause := errors.New("the cause")
	canceled, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	for name, call := range calls {
		err := call(canceled)
		require.ErrorIs(t, err, context.Canceled, name)
		require.ErrorIs(t, err, cause, name)
		require.NotErrorIs(t, err, store.ErrUncertain, name)
		require.NotErrorIs(t, err, store.ErrUnavailable, name)
	}
	assert.Equal(t, "a", get(t, st, "k").Value)

	server.Stop()
	short, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	for name, call := range calls {
		ctx, stop := context.WithTimeout(short, 30*time.Millisecond)
		err := call(ctx)
		stop()
		require.ErrorIs(t, err, context.DeadlineExceeded, name)
		require.NotErrorIs(t, err, store.ErrUnavailable, name)
	}
	t.Cleanup(server.Continue) // or Close waits for what nobody waits for any more
	for _, name := range []string{"create", "put", "delete", "touch"} {
		ctx, stop := context.WithCancel(t.Context())
		timer := time.AfterFunc(50*time.Millisecond, stop)
		err := calls[name](ctx)
		timer.Stop()
		require.ErrorIs(t, err, context.Canceled, name)
		require.ErrorIs(t, err, store.ErrUncertain, name)
	}
}

// TestSilentServer: a call takes no longer than the Store allows, and its error is not taken for the end of a context.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, err := store.New(newClient(t, server.Addr()), store.WithStateTimeout(100*time.Millisecond))
	require.NoError(t, err)
	st := newState[string](t, s)
	for range 3 {
		if _, err = st.Put(t.Context(), "k", "a"); err == nil {
			break
		}
	}
	require.NoError(t, err)
	server.Stop()
	_, err = st.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	var failed *store.UnavailableError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, "get", failed.Op)
	assert.Equal(t, "k", failed.Key)
	_, err = st.Put(t.Context(), "k", "b")
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorIs(t, err, store.ErrUncertain)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, s.HealthCheck(t.Context()), store.ErrUnavailable)
	server.Continue()
	require.Eventually(t, func() bool { return s.HealthCheck(t.Context()) == nil }, patience, tick)
	require.NoError(t, s.Close(t.Context()))
}

// TestServerThatIsDown: a write that was never sent has certainly not been done.
func TestServerThatIsDown(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	st := newState[string](t, newStore(t, newClient(t, server.Addr()), store.WithStateTimeout(2*time.Second)))
	server.Kill()
	_, err := st.Put(t.Context(), "k", "a")
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.NotErrorIs(t, err, store.ErrUncertain)
}
