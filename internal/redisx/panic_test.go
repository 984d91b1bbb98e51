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
	assert.NotPanics(t, func() { redisx.Raise(nil) })
	assert.NotPanics(t, func() { redisx.Raise(failure) })
	defer func() { assert.Contains(t, recover(), "the hook's own fault\n\nraised in another goroutine, at:\n") }()
	redisx.Raise(fmt.Errorf("node 1: %w", err))
}

func TestIsolate(t *testing.T) {
	t.Parallel()
	failure := errors.New("failure")
	require.NoError(t, redisx.Isolate(func() error { return nil }))
	require.Equal(t, failure, redisx.Isolate(func() error { return failure }))
	require.EqualError(t, redisx.Isolate(func() error { panic("the hook's own fault") }), "panic: the hook's own fault")
	require.ErrorIs(t, redisx.Isolate(func() error { runtime.Goexit(); return nil }), redisx.ErrExited)
}
