package lock

import (
	"context"
	"errors"
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
	if !m.tasks.begin() {
		return ErrManagerClosed
	}
	defer m.tasks.end()
	ctx, cancel := context.WithTimeout(redisx.Background(ctx), maxNodeTimeout) // Close waits for all that were asked
	defer cancel()
	answers := make(chan error, len(m.nodes))
	for i, n := range m.nodes {
		m.tasks.spawn(func() {
			if err := n.client.Ping(ctx).Err(); err != nil {
				answers <- fmt.Errorf("node %d: %w", i, err)
				return
			}
			answers <- nil
		})
	}
	var errs []error
	up := 0
	for range m.nodes {
		select {
		case err := <-answers:
			if err != nil {
				errs = append(errs, err)
			} else if up++; up >= m.quorum() {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("%w: %d of %d nodes answered: %w", ErrRedis, up, len(m.nodes), errors.Join(append(errs, ctx.Err())...))
		}
	}
	return fmt.Errorf("%w: %d of %d nodes answered: %w", ErrRedis, up, len(m.nodes), errors.Join(errs...))
}

// Alive reports whether the manager's own goroutines run; it asks nothing of Redis. It returns nil before the first
// lock and after Close. Safe for concurrent use.
func (m *RedisLockManager) Alive() error {
	if m.none() {
		return errNoManager()
	}
	if late := m.renewer.late(); late > 0 {
		return fmt.Errorf("lock: renewal is %v late", late.Round(time.Millisecond))
	}
	return nil
}
