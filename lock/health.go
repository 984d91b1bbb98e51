package lock

import (
	"context"
	"fmt"
	"time"

	"github.com/compozy/cache/internal/redisx"
)

// HealthCheck reports whether locks can be acquired: a majority of the nodes answers a PING before ctx ends, and within
// 2s. It returns an error matching ErrRedis if not, and ErrManagerClosed after Close. Safe for concurrent use.
func (m *RedisLockManager) HealthCheck(ctx context.Context) error {
	if m.none() {
		return errNoManager()
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	if !m.calls.begin() {
		return ErrManagerClosed
	}
	defer m.calls.end()
	ctx, cancel := context.WithTimeout(redisx.Background(ctx), maxNodeTimeout) // Close waits for all that were asked
	defer cancel()
	if err := m.store.Ping(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrRedis, err)
	}
	return nil
}

// Alive reports whether the manager's own goroutines run; it asks nothing of Redis. It returns nil before the first
// lock and after Close. Safe for concurrent use.
func (m *RedisLockManager) Alive() error {
	if m.none() {
		return errNoManager()
	}
	if late := m.keeper.renewer.late(); late > 0 {
		return fmt.Errorf("lock: renewal is %v late", late.Round(time.Millisecond))
	}
	return nil
}
