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
	"github.com/compozy/cache/store"
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
	return bundle{Pool: pool(t, o, s, locks, events), locks: locks, events: events, id: w.ID}
}

// pool returns one whose customers are cached where the states are.
func pool(t *testing.T, o Options, s *Store, locks cache.Locker, events cache.NotificationSystem) *Pool {
	t.Helper()
	kept, err := store.New(s.rdb)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, kept.Close(context.WithoutCancel(t.Context()))) })
	customers, err := store.NewCache[Customer](kept, "customers")
	require.NoError(t, err)
	d := NewDiary()
	return NewPool(poolParams{
		Options: o, Store: s, Customers: NewCustomers(customers, d), Locks: locks, Events: events,
		Tally: new(Tally), Outage: NewOutage(zap.NewNop(), d), Diary: d, Log: zap.NewNop(),
	})
}

// begun waits until somebody is in the middle of a step.
func (b bundle) begun(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, facts, err := b.in.Store.Ledger(t.Context(), b.id)
		return err == nil && len(facts) > 0 && facts[len(facts)-1].What == factBegun
	}, patience, time.Millisecond)
}

func (b bundle) state(t *testing.T) Workflow {
	t.Helper()
	w, err := b.in.Store.Load(t.Context(), b.id)
	require.NoError(t, err)
	return w
}

func TestPoolRunsWhatIsThereAndTellsEachEventOnce(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Options{Workers: 3, Name: "a", Failures: 0.5})
	b.Start(t.Context())
	defer b.Stop()

	require.Eventually(t, func() bool {
		unfinished, err := b.in.Store.Unfinished(t.Context())
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

	require.True(t, b.locks.Lose(b.in.Store.Resource(b.id)))

	require.ErrorIs(t, <-result, cache.ErrLockExpired, "and not after an hour")
	assert.Equal(t, Running, b.state(t).Status)
	assert.Zero(t, b.in.Tally.Steps.Load())

	quick := pool(t, Options{Name: "b"}, b.in.Store, b.locks, b.events)
	did, err := quick.next(t.Context(), "b/1")
	require.NoError(t, err)
	assert.True(t, did)
	assert.Equal(t, Done, b.state(t).Status)
	assert.Equal(t, int64(1), quick.in.Tally.Takeovers.Load())
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
	_, err := b.locks.Acquire(t.Context(), b.in.Store.Resource(b.id), time.Minute)
	require.NoError(t, err)

	did, err := b.next(t.Context(), "a/1")

	require.NoError(t, err)
	assert.False(t, did)
	waits, err := b.in.Store.Waits(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(1), waits)
}

// The worst moment to die: the last state is written, and nobody has been told.
func TestWhatADeadWorkerDidNotTellIsTold(t *testing.T) {
	t.Parallel()
	b := newBundle(t, Options{Name: "heir"})
	w := b.state(t)
	w = commit(t, b.in.Store, w, w.Claim("dead/1", 1, time.Now()), factClaimed)
	for w.Status != Done {
		w = commit(t, b.in.Store, w, w.Succeed(time.Now()), factDone)
	}
	w = b.state(t)

	did, err := b.next(t.Context(), "heir/1")

	require.NoError(t, err)
	assert.True(t, did)
	assert.Len(t, b.events.Published(), len(w.Outbox))
	assert.Equal(t, w, b.state(t), "nothing ran again")
	unfinished, err := b.in.Store.Unfinished(t.Context())
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
	require.NoError(t, b.in.Store.states.Delete(t.Context(), b.in.Store.stateKey(b.id)))

	_, err := b.next(t.Context(), "a/1")

	require.ErrorIs(t, err, errVanished)
	did, err := b.next(t.Context(), "a/1")
	require.NoError(t, err)
	assert.False(t, did)
}
