package redisx_test

import (
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redisx"
)

func TestCatchAndRaise(t *testing.T) {
	t.Parallel()
	failure := errors.New("failure")
	require.NoError(t, redisx.Catch(func() error { return nil }))
	require.Equal(t, failure, redisx.Catch(func() error { return failure }))
	err := redisx.Catch(func() error { panic("the hook's own fault") })
	require.EqualError(t, err, "panic: the hook's own fault")
	caught, _ := errors.AsType[*redisx.PanicError](err)
	require.Regexp(t, `^redisx_test\.TestCatchAndRaise\.func\d+ \(panic_test\.go:\d+\)$`, caught.Where)
	err = redisx.Catch(func() error { return errors.New(none().Where) })
	caught, _ = errors.AsType[*redisx.PanicError](err)
	require.Regexp(t, `^redisx_test\.TestCatchAndRaise\.func\d+ \(panic_test\.go:\d+\)$`, caught.Where, "and not the runtime, which finds the nil")
	err = redisx.Catch(func() error { panic("the hook's own fault") })
	again := redisx.Catch(func() error { redisx.Raise(err); return nil })
	require.EqualError(t, again, "panic: the hook's own fault", "and no stack")
	assert.NotPanics(t, func() { redisx.Raise(nil) })
	assert.NotPanics(t, func() { redisx.Raise(failure) })
	defer func() {
		v := recover()
		assert.Contains(t, v, "the hook's own fault\n\nraised in another goroutine, at:\n")
		assert.Equal(t, "the hook's own fault", redisx.PanicText(v))
	}()
	redisx.Raise(fmt.Errorf("node 1: %w", err))
}

func none() *redisx.PanicError { return nil }

func TestApart(t *testing.T) {
	t.Parallel()
	failure := errors.New("failure")
	require.NoError(t, redisx.Apart(func() error { return nil }))
	require.Equal(t, failure, redisx.Apart(func() error { return failure }))
	require.EqualError(t, redisx.Apart(func() error { panic("the hook's own fault") }), "panic: the hook's own fault")
	require.ErrorIs(t, redisx.Apart(func() error { runtime.Goexit(); return nil }), redisx.ErrExited)
}
