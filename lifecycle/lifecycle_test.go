package lifecycle

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// connection is a server that becomes ready, or never does.
type connection struct {
	down   error // what pings say; nil when Redis is up
	nodes  error // what the lock nodes say
	opened bool
	closed int
	// budget is what Start granted
	budget time.Duration
	asked  int
}

func (c *connection) Open() { c.opened = true }

func (c *connection) WaitReady(ctx context.Context) error {
	c.note(ctx)
	if c.down != nil {
		<-ctx.Done()
	}
	return c.down
}

func (c *connection) HealthCheck(ctx context.Context) error { c.note(ctx); return c.down }

func (c *connection) CheckLockNodes(context.Context) error { return c.nodes }

func (c *connection) Close() error { c.closed++; return nil }

func (c *connection) note(ctx context.Context) {
	c.asked++
	deadline, _ := ctx.Deadline()
	c.budget = time.Until(deadline)
}

func redisFor(c *connection, required bool) (*Redis, *observer.ObservedLogs) {
	core, logs := observer.New(zap.DebugLevel)
	return &Redis{
		Connection: c, Required: required, ProbeTimeout: time.Second,
		Logger: zap.New(core), Summary: []zap.Field{zap.String("addr", "somewhere:6379")},
	}, logs
}

func TestRedisStartUsesHalfOfTheBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c := &connection{down: errors.New("refused at somewhere:6379")}
		r, _ := redisFor(c, true)
		began := time.Now()

		err := r.Start(ctx)

		require.ErrorIs(t, err, c.down, "our own error comes first")
		assert.Equal(t, 5*time.Second, time.Since(began))
		assert.NoError(t, ctx.Err())
	})
}

func TestRedisStartWithoutDeadlineAssumesFxDefault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &connection{}
		r, logs := redisFor(c, true)

		require.NoError(t, r.Start(context.Background()))

		assert.True(t, c.opened)
		assert.Equal(t, fx.DefaultTimeout/2, c.budget)
		assert.Equal(t, 1, logs.FilterMessage("cache: started").FilterFieldKey("addr").Len(), "one start-up line")
	})
}

func TestRedisNotRequiredStartsWithAWarning(t *testing.T) {
	t.Parallel()
	c := &connection{down: errors.New("refused")}
	r, logs := redisFor(c, false)

	require.NoError(t, r.Start(t.Context()))

	assert.Equal(t, 1, c.asked)
	assert.LessOrEqual(t, c.budget, time.Second)
	require.Equal(t, 1, logs.Len())
	assert.Equal(t, zap.WarnLevel, logs.All()[0].Level)
}

func TestRedisNotRequiredTellsOfServerAndLockNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &hanging{}
		r, logs := redisFor(&c.connection, false)
		r.Connection = c
		began := time.Now()

		require.NoError(t, r.Start(t.Context()))

		assert.Equal(t, r.ProbeTimeout, time.Since(began), "both are asked at once")
		require.Equal(t, 1, logs.Len(), "one line for both")
		fields := logs.All()[0].ContextMap()
		assert.Equal(t, "server", fields["error"])
		assert.Equal(t, "nodes", fields["lock_nodes_error"])
	})
}

// hanging is a connection to a server and to lock nodes that use up their time.
type hanging struct{ connection }

func (*hanging) HealthCheck(ctx context.Context) error {
	<-ctx.Done()
	return errors.New("server")
}

func (*hanging) CheckLockNodes(ctx context.Context) error {
	<-ctx.Done()
	return errors.New("nodes")
}

func TestFailedStartClosesTheConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &connection{down: errors.New("refused")}
		r, _ := redisFor(c, true)
		lc := fxtest.NewLifecycle(t)
		AppendRedis(lc, r)

		require.Error(t, lc.Start(t.Context()))
		require.NoError(t, lc.Stop(t.Context())) // Fx calls it after a failed start

		assert.Equal(t, 1, c.closed)
	})
}

// closer uses up all the time that it is given.
type closer struct{ used time.Duration }

func (c *closer) Close(ctx context.Context) error {
	began := time.Now()
	<-ctx.Done()
	c.used = time.Since(began)
	return ctx.Err()
}

func (c *closer) Shutdown(ctx context.Context) error { return c.Close(ctx) }

func TestStopLeavesHalfOfTheBudgetToOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var locks, notifications, store closer
		c := &connection{}
		r, _ := redisFor(c, true)
		var h Hooks
		AppendRedis(&h, r)
		AppendLocks(&h, &Locks{Manager: &locks})
		AppendNotifications(&h, &Notifications{System: &notifications})
		AppendStore(&h, &Store{Store: &store})
		require.NoError(t, h.Start(t.Context()))
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		began := time.Now()

		err := h.Stop(ctx)

		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "closing the store")
		assert.Equal(t, 5*time.Second, store.used)
		assert.Equal(t, 4*time.Second, notifications.used)
		assert.Equal(t, 3200*time.Millisecond, locks.used)
		assert.Less(t, time.Since(began), 12500*time.Millisecond)
		assert.Equal(t, 1, c.closed, "whatever else fails, connections are closed")
	})
}
