package tasks_test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/compozy/cache/internal/tasks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ended returns a context that has ended.
func ended(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestCloseWithNothingUnderWay(t *testing.T) {
	t.Parallel()
	all := tasks.New()
	require.True(t, all.Begin())
	all.End()
	assert.False(t, all.Closed())
	require.NoError(t, all.Closing().Err())
	assert.False(t, all.Wait(ended(t)), "it is not closed")
	assert.True(t, all.Close())
	assert.False(t, all.Close(), "it is closed")
	assert.True(t, all.Closed())
	require.ErrorIs(t, all.Closing().Err(), context.Canceled)
	assert.True(t, all.Wait(ended(t)), "whatever has happened to the context")
	assert.False(t, all.Begin())
}

func TestCloseWaitsForCallsAndWhatFollowsFromThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := tasks.New()
		require.True(t, all.Begin())
		require.True(t, all.Close())
		done := make(chan bool, 1)
		go func() { done <- all.Wait(t.Context()) }()
		first, second := make(chan struct{}), make(chan struct{})
		require.True(t, all.Spawn(func() {
			<-first
			all.Go(func() { <-second })
		}), "the call is under way")
		all.End()
		for _, next := range []chan struct{}{first, second} {
			synctest.Wait()
			assert.Empty(t, done)
			assert.False(t, all.Wait(ended(t)))
			assert.False(t, all.Begin())
			close(next)
		}
		assert.True(t, <-done)
	})
}

// TestWhatComesWhenAllIsDone: it is refused, or runs and is not waited for.
func TestWhatComesWhenAllIsDone(t *testing.T) {
	t.Parallel()
	all := tasks.New()
	require.True(t, all.Close())
	assert.False(t, all.Spawn(func() { assert.Fail(t, "it was refused") }))
	goes, ran := make(chan struct{}), make(chan struct{})
	all.Go(func() {
		defer close(ran)
		<-goes
	})
	assert.True(t, all.Wait(t.Context()), "nothing is counted")
	close(goes)
	<-ran
	assert.False(t, all.Close())
}

// TestGoexitEndsATask, and so does whatever else ends a goroutine.
func TestGoexitEndsATask(t *testing.T) {
	t.Parallel()
	all := tasks.New()
	require.True(t, all.Spawn(runtime.Goexit))
	all.Go(runtime.Goexit)
	require.True(t, all.Close())
	assert.True(t, all.Wait(t.Context()))
}

// TestOneCallerCloses, however many there are.
func TestOneCallerCloses(t *testing.T) {
	t.Parallel()
	all := tasks.New()
	var callers sync.WaitGroup
	closed := make(chan bool, 8)
	for range cap(closed) {
		callers.Go(func() {
			if all.Begin() {
				all.Go(func() {})
				all.End()
			}
			closed <- all.Close()
			assert.True(t, all.Wait(t.Context()))
		})
	}
	callers.Wait()
	close(closed)
	first := 0
	for did := range closed {
		if did {
			first++
		}
	}
	assert.Equal(t, 1, first)
}
