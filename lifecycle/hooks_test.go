package lifecycle

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
)

// record returns hooks that write what they do into log, and a setter for what
// they answer.
func record(log *[]string, name string, startErr, stopErr error) fx.Hook {
	return fx.Hook{
		OnStart: func(context.Context) error { *log = append(*log, name+".start"); return startErr },
		OnStop:  func(context.Context) error { *log = append(*log, name+".stop"); return stopErr },
	}
}

func TestHooksStartInOrderAndStopInReverse(t *testing.T) {
	t.Parallel()
	var h Hooks
	var log []string
	h.Append(record(&log, "a", nil, nil))
	h.Append(record(&log, "b", nil, nil))

	require.NoError(t, h.Start(t.Context()))
	require.NoError(t, h.Stop(t.Context()))
	require.NoError(t, h.Stop(t.Context()), "stopped twice")

	assert.Equal(t, []string{"a.start", "b.start", "b.stop", "a.stop"}, log)
}

func TestHooksRollBackWhatStarted(t *testing.T) {
	t.Parallel()
	var h Hooks
	var log []string
	bad, worse := errors.New("bad"), errors.New("worse")
	h.Append(record(&log, "a", nil, worse))
	h.Append(record(&log, "b", bad, nil))
	h.Append(record(&log, "c", nil, nil))

	err := h.Start(t.Context())

	require.ErrorIs(t, err, bad)
	require.ErrorIs(t, err, worse, "errors of the rollback are joined")
	assert.Equal(t, []string{"a.start", "b.start", "a.stop"}, log)
}

func TestHooksRollBackWhenOnePanics(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(){"panics": func() { panic("boom") }, "ends its goroutine": runtime.Goexit} {
		var h Hooks
		var log []string
		h.Append(record(&log, "a", nil, nil))
		h.Append(record(&log, "b", nil, nil))
		h.Append(fx.StartHook(end))
		h.Append(record(&log, "c", nil, nil))
		recovered := make(chan any, 1)
		go func() {
			defer func() { recovered <- recover() }()
			_ = h.Start(t.Context())
		}()
		if value := <-recovered; name == "panics" {
			assert.Equal(t, "boom", value, "the panic goes on")
		}
		assert.Equal(t, []string{"a.start", "b.start", "b.stop", "a.stop"}, log, name)
		require.NoError(t, h.Stop(t.Context()), "nothing is left, nor locked")
		assert.Len(t, log, 4)
	}
}

func TestHooksStopGoesOnAfterAPanic(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(){"panics": func() { panic("boom") }, "ends its goroutine": runtime.Goexit} {
		var h Hooks
		var log []string
		h.Append(record(&log, "a", nil, nil))
		h.Append(fx.StopHook(end))
		h.Append(record(&log, "b", nil, errors.New("bad")))
		require.NoError(t, h.Start(t.Context()))
		recovered := make(chan any, 1)
		go func() {
			defer func() { recovered <- recover() }()
			_ = h.Stop(t.Context())
		}()
		if value := <-recovered; name == "panics" {
			assert.Equal(t, "boom", value, "the panic goes on")
		}
		assert.Equal(t, []string{"a.start", "b.start", "b.stop", "a.stop"}, log, name)
		require.NoError(t, h.Stop(t.Context()), "nothing is left, nor locked")
		assert.Len(t, log, 4)
	}
}

func TestHooksRollBackAlthoughTheContextHasEnded(t *testing.T) {
	t.Parallel()
	var h Hooks
	ctx, cancel := context.WithCancel(t.Context())
	var stopCtxErr error
	stopped := false
	h.Append(fx.StopHook(func(ctx context.Context) { stopped, stopCtxErr = true, ctx.Err() }))
	h.Append(fx.StartHook(func(ctx context.Context) error { cancel(); return ctx.Err() }))

	require.ErrorIs(t, h.Start(ctx), context.Canceled)

	assert.True(t, stopped)
	assert.NoError(t, stopCtxErr, "the rollback has a budget of its own")
}

func TestHooksStopGoesOnAfterAnError(t *testing.T) {
	t.Parallel()
	var h Hooks
	var log []string
	first, second := errors.New("first"), errors.New("second")
	h.Append(record(&log, "a", nil, first))
	h.Append(record(&log, "b", nil, second))
	require.NoError(t, h.Start(t.Context()))

	err := h.Stop(t.Context())

	require.ErrorIs(t, err, first)
	require.ErrorIs(t, err, second)
}

func TestHooksStoppedWithoutStart(t *testing.T) {
	t.Parallel()
	var h Hooks
	var log []string
	h.Append(record(&log, "a", nil, nil))

	require.NoError(t, h.Stop(t.Context()))

	assert.Empty(t, log)
}
