package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/compozy/cache"
	cachetest "github.com/compozy/cache/fxtest"
)

// bundle is a pool with one workflow to do, on fakes of everything but the store.
type bundle struct {
	*Pool
	locks  *cachetest.LockManager
	events *cachetest.NotificationSystem
	id     string
}

func newBundle(t *testing.T, o Options) bundle {
	t.Helper()
	s, w := submitted(t)
	locks, events := cachetest.NewLockManager(), cachetest.NewNotificationSystem()
	return bundle{
		Pool:  NewPool(o, s, locks, events, new(Tally), zap.NewNop()),
		locks: locks, events: events, id: w.ID,
	}
}

// begun waits until somebody is in the middle of a step.
func (b bundle) begun(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, facts, err := b.store.Ledger(t.Context(), b.id)
		return err == nil && len(facts) > 0 && facts[len(facts)-1].What == factBegun
	}, patience, time.Millisecond)
}

func (b bundle) state(t *testing.T) Workflow {
	t.Helper()
	w, err := b.store.Load(t.Context(), b.id)
	require.NoError(t, err)
	return w
}

func TestPoolRunsWhatIsThereAndTellsEachEventOnce(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Options{Workers: 3, Name: "a", Failures: 0.5})
	b.Start(t.Context())
	defer b.Stop()

	require.Eventually(t, func() bool {
		unfinished, err := b.store.Unfinished(t.Context())
		return err == nil && unfinished == 0
	}, patience, time.Millisecond)

	w := b.state(t)
	assert.Equal(t, Done, w.Status)
	assert.Len(t, b.events.Published(), int(w.Seq))
	assert.NoError(t, b.HealthCheck(t.Context()))
	b.Stop()
	assert.ErrorIs(t, b.HealthCheck(t.Context()), errNotRunning)
	assert.Empty(t, b.locks.Held())
}

func TestWorkerStopsWhenItsLockIsLost(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Options{Name: "a", Step: time.Hour})
	result := make(chan error, 1)
	go func() {
		_, err := b.next(t.Context(), "a/1")
		result <- err
	}()
	b.begun(t)

	require.True(t, b.locks.Lose(b.store.Resource(b.id)))

	require.ErrorIs(t, <-result, cache.ErrLockExpired, "and not after an hour")
	assert.Equal(t, Running, b.state(t).Status)
	assert.Zero(t, b.tally.Steps.Load())

	quick := NewPool(Options{Name: "b"}, b.store, b.locks, b.events, new(Tally), zap.NewNop())
	did, err := quick.next(t.Context(), "b/1")
	require.NoError(t, err)
	assert.True(t, did)
	assert.Equal(t, Done, b.state(t).Status)
	assert.Equal(t, int64(1), quick.tally.Takeovers.Load())
}

func TestStoppedPoolLeavesItsWorkAtOnce(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Options{Workers: 1, Name: "a", Step: time.Hour})
	b.Start(t.Context())
	b.begun(t)

	b.Stop()
	b.Stop()

	assert.Empty(t, b.locks.Held(), "nobody has to wait for the TTL")
	assert.Equal(t, Running, b.state(t).Status)
}

func TestHeldWorkflowIsAWait(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Options{})
	_, err := b.locks.Acquire(t.Context(), b.store.Resource(b.id), time.Minute)
	require.NoError(t, err)

	did, err := b.next(t.Context(), "a/1")

	require.NoError(t, err)
	assert.False(t, did)
	waits, err := b.store.Waits(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(1), waits)
}

// The worst moment to die: the last state is written, and nobody has been told.
func TestWhatADeadWorkerDidNotTellIsTold(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Options{Name: "heir"})
	w := b.state(t)
	w = commit(t, b.store, w, w.Claim("dead/1", 1, time.Now()), factClaimed)
	for w.Status != Done {
		w = commit(t, b.store, w, w.Succeed(time.Now()), factDone)
	}
	w = b.state(t)

	did, err := b.next(t.Context(), "heir/1")

	require.NoError(t, err)
	assert.True(t, did)
	assert.Len(t, b.events.Published(), len(w.Outbox))
	assert.Equal(t, w, b.state(t), "nothing ran again")
	unfinished, err := b.store.Unfinished(t.Context())
	require.NoError(t, err)
	assert.Zero(t, unfinished)
}

// A worker picks a workflow that another one is about to end, and gets the lock right after that.
func TestFinishedWorkflowIsNotToldAgain(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Options{Name: "a"})
	_, err := b.next(t.Context(), "a/1")
	require.NoError(t, err)
	told := len(b.events.Published())

	require.NoError(t, b.finish(t.Context(), b.id, "a/2", 2))

	assert.Len(t, b.events.Published(), told)
}

func TestFailedPublishLeavesTheWorkflowToOthers(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Options{Name: "a"})
	b.events.Fail(context.DeadlineExceeded)
	_, err := b.next(t.Context(), "a/1")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Empty(t, b.locks.Held())

	b.events.Fail(nil)
	_, err = b.next(t.Context(), "a/1")
	require.NoError(t, err)
	w := b.state(t)
	assert.Equal(t, Done, w.Status)
	assert.Len(t, b.events.Published(), int(w.Seq), "none is missing")
}

func TestVanishedWorkflowIsTriedOnce(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Options{})
	require.NoError(t, b.store.states.Delete(t.Context(), b.store.stateKey(b.id)))

	_, err := b.next(t.Context(), "a/1")

	require.ErrorIs(t, err, errVanished)
	did, err := b.next(t.Context(), "a/1")
	require.NoError(t, err)
	assert.False(t, did)
}
