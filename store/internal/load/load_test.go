package load_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/compozy/cache/store/internal/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// spawn starts a goroutine of a loader.
func spawn(f func()) { go f() }

type valueKey struct{}

func TestOneCallPerKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g load.Group[int]
		var firsts atomic.Int64
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				m := g.Join("k", time.Now())
				if m.First {
					firsts.Add(1)
					time.Sleep(time.Second) // in a bubble
					m.Finish(load.Outcome[int]{Value: 7})
				}
				<-m.Done()
				assert.Equal(t, 7, m.Outcome().Value)
				assert.False(t, m.Repeats())
			})
		}
		all.Wait()
		assert.EqualValues(t, 1, firsts.Load())
		assert.True(t, g.Join("k", time.Now()).First, "the next one starts a call of its own")
		assert.True(t, g.Join("other", time.Now()).First)
	})
}

func TestForgottenCallIsNotJoined(t *testing.T) {
	t.Parallel()
	var g load.Group[int]
	before := g.Join("k", time.Now())
	g.Forget("k")
	after := g.Join("k", time.Now())
	require.True(t, after.First)
	before.Finish(load.Outcome[int]{Value: 1})
	joined := g.Join("k", time.Now())
	require.False(t, joined.First, "the end of the former call does not end the later one")
	after.Finish(load.Outcome[int]{Value: 2})
	assert.Equal(t, 2, joined.Outcome().Value)
}

func TestWhoRepeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			asOf               bool
			abandoned          bool
			first, early, late bool
		}{
			"good for all": {false, false, false, false, false},
			"late":         {true, false, false, false, true},
			"abandoned":    {false, true, false, true, true},
		} {
			var g load.Group[int]
			first, early := g.Join("k", time.Now()), g.Join("k", time.Now())
			var out load.Outcome[int]
			if out.Abandoned = c.abandoned; c.asOf {
				out.AsOf = time.Now()
			}
			time.Sleep(time.Microsecond) // in a bubble
			late := g.Join("k", time.Now())
			again := g.Join("k", time.Now().Add(-time.Second))
			first.Finish(out)
			first.Finish(load.Outcome[int]{Err: errors.New("too late")})
			require.NoError(t, first.Outcome().Err)
			assert.Equal(t, c.first, first.Repeats(), name)
			assert.Equal(t, c.early, early.Repeats(), name)
			assert.Equal(t, c.late, late.Repeats(), name)
			assert.Equal(t, c.abandoned, again.Repeats(), "what counts is when it has come, %s", name)
		}
	})
}

func TestTryStart(t *testing.T) {
	t.Parallel()
	var g load.Group[int]
	c, ok := g.TryStart("k")
	require.True(t, ok)
	_, ok = g.TryStart("k")
	require.False(t, ok)
	c.Finish(load.Outcome[int]{})
	_, ok = g.TryStart("k")
	require.True(t, ok)
}

func TestFallbackIsForThoseWhoCameBefore(t *testing.T) {
	t.Parallel()
	var g load.Group[int]
	began := time.Now()
	early, late := g.Join("k", began), g.Join("k", began.Add(2*time.Second))
	_, _, ok := early.Fallback()
	require.False(t, ok)
	requireFallback := func(m load.Member[int], want int, wantLate bool) {
		t.Helper()
		fallback, isLate, ok := m.Fallback()
		require.True(t, ok)
		assert.Equal(t, want, fallback)
		assert.Equal(t, wantLate, isLate)
	}
	early.Offer(3, began.Add(time.Second))
	requireFallback(early, 3, false)
	requireFallback(late, 3, true)
	late.Offer(4, began.Add(3*time.Second))
	late.Offer(5, began.Add(time.Second)) // what was read before, and comes later
	requireFallback(early, 4, false)
	requireFallback(late, 4, false)
}

func TestLoaderHasValuesOfItsCallerOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), valueKey{}, "v"), time.Second)
		cancel()
		v, err := load.Run(ctx, t.Context(), time.Minute, spawn, func(ctx context.Context) (any, error) {
			time.Sleep(2 * time.Second) // in a bubble
			deadline, ok := ctx.Deadline()
			assert.True(t, ok)
			assert.Equal(t, 58*time.Second, time.Until(deadline))
			return ctx.Value(valueKey{}), ctx.Err()
		})
		require.NoError(t, err)
		assert.Equal(t, "v", v)
	})
}

func TestLimitOfALoader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := load.Run(t.Context(), t.Context(), time.Second, spawn, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		require.ErrorIs(t, err, load.ErrTimeout)
		end := make(chan struct{})
		_, err = load.Run(t.Context(), t.Context(), time.Second, spawn, func(context.Context) (int, error) {
			<-end // deaf
			return 1, nil
		})
		require.ErrorIs(t, err, load.ErrTimeout)
		assert.Equal(t, 2*time.Second, time.Since(start))
		close(end)

		_, err = load.Run(t.Context(), t.Context(), time.Hour, spawn, func(context.Context) (int, error) {
			return 0, context.DeadlineExceeded // of something that the loader called
		})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, load.ErrTimeout)
	})
}

func TestLoaderEndsWithTheStore(t *testing.T) {
	t.Parallel()
	errClosed := errors.New("closed")
	closing, shut := context.WithCancelCause(t.Context())
	_, err := load.Run(t.Context(), closing, time.Hour, spawn, func(ctx context.Context) (int, error) {
		shut(errClosed)
		<-ctx.Done()
		return 0, errClosed
	})
	require.ErrorIs(t, err, errClosed)
}

func TestPanicAndGoexitAreErrors(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	run := func(f func()) error {
		_, err := load.Run(t.Context(), t.Context(), time.Hour, spawn, func(context.Context) (int, error) {
			f()
			return 1, nil
		})
		return err
	}
	var panicked *load.PanicError
	err := run(func() { panic(cause) })
	require.ErrorAs(t, err, &panicked)
	require.ErrorIs(t, err, cause)
	assert.Contains(t, string(panicked.Stack), "load_test.go")
	require.EqualError(t, run(func() { panic("x") }), "the loader panicked: x")
	require.EqualError(t, run(runtime.Goexit), "the loader called runtime.Goexit")
	require.NoError(t, run(func() {}))
}

func TestLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := load.NewLimit(2)
		acquire := func(ctx context.Context, leave, hastened <-chan struct{}) func() {
			release, ok := l.Acquire(ctx, leave, hastened)
			assert.Equal(t, release != nil, ok)
			return release
		}
		release := acquire(t.Context(), nil, nil)
		require.NotNil(t, release)
		require.NotNil(t, acquire(t.Context(), nil, nil))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Nil(t, acquire(ctx, nil, nil))
		closed := make(chan struct{})
		close(closed)
		require.Nil(t, acquire(t.Context(), closed, nil))
		beyond := acquire(t.Context(), nil, closed)
		require.NotNil(t, beyond)
		beyond()
		assert.Equal(t, 2, l.Running())
		hastened := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(hastened) }) // in a bubble
		require.NotNil(t, acquire(t.Context(), nil, hastened))
		time.AfterFunc(time.Second, release) // in a bubble
		require.NotNil(t, acquire(t.Context(), nil, nil))
		assert.Equal(t, 2, l.Running())
	})
}

func TestLimitCoversWhatItsLoadersCall(t *testing.T) {
	t.Parallel()
	a, b := load.NewLimit(1), load.NewLimit(1)
	ctx := a.With(t.Context())
	assert.True(t, a.Covers(ctx))
	assert.False(t, b.Covers(ctx))
	assert.True(t, a.Covers(b.With(ctx)))
	assert.False(t, a.Covers(t.Context()))
}

func TestUrgentMembersHastenTheQueue(t *testing.T) {
	t.Parallel()
	var g load.Group[int]
	hastened := 0
	hasten := func() { hastened++ }
	first, urgent := g.Join("k", time.Now()), g.Join("k", time.Now())
	first.Queue(hasten)
	assert.True(t, first.Queued())
	require.Zero(t, hastened)
	urgent.Hasten()
	require.Equal(t, 1, hastened)
	first.Queue(nil)
	assert.False(t, first.Queued())
	urgent.Hasten()
	require.Equal(t, 1, hastened)
	first.Queue(hasten)
	require.Equal(t, 2, hastened, "it is known from before")
}

func TestQueuedCallIsDesertedByTheLastWhoLeaves(t *testing.T) {
	t.Parallel()
	var g load.Group[int]
	deserted := func(c *load.Call[int]) bool {
		select {
		case <-c.Deserted():
			return true
		default:
			return false
		}
	}
	a, b := g.Join("k", time.Now()), g.Join("k", time.Now())
	a.Leave()
	a.Queue(func() {})
	assert.True(t, a.Queued())
	require.False(t, deserted(a.Call))
	b.Leave()
	require.True(t, deserted(a.Call))
	require.True(t, g.Join("k", time.Now()).First, "nobody joins what is not going to load")

	c := g.Join("other", time.Now())
	c.Leave()
	require.False(t, deserted(c.Call), "it is not queued")
	c.Queue(nil)
	require.False(t, deserted(c.Call), "a loader that runs is not held up")
	c.Queue(func() {})
	require.True(t, deserted(c.Call))
	c.Queue(func() {})
}

func TestLimitedEndsWithItsLimitOrWithClosing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		errLate, errClosed := errors.New("late"), errors.New("closed")
		closing, stop := context.WithCancelCause(t.Context())
		ctx, end := load.Limited(t.Context(), closing, time.Second, errLate)
		defer end()
		<-ctx.Done()
		require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
		require.ErrorIs(t, context.Cause(ctx), errLate)

		ctx, end = load.Limited(t.Context(), closing, time.Second, errLate)
		end()
		require.ErrorIs(t, context.Cause(ctx), context.Canceled)

		ctx, end = load.Limited(t.Context(), closing, time.Second, errLate)
		defer end()
		stop(errClosed)
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), errClosed)
	})
}
