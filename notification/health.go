package notification

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// deadAfter is how many heartbeat intervals may pass without a heartbeat coming back.
const deadAfter = 3

// deadline is how long that is.
func (s *settings) deadline() time.Duration { return deadAfter * s.heartbeat }

// stalledAfter is how long the dispatcher may take for one event before Alive calls it stuck.
const stalledAfter = 30 * time.Second

// HealthCheck is for readiness: it returns nil while there are no subscriptions or all are being served, and an
// error matching ErrNotLive while the shared connection is cut, being recovered, or silent, or Redis refuses a
// subscription: until one to the same name is accepted, or the context ends that was given to the last one refused. In a
// Cluster it also does while SSUBSCRIBE is refused. It waits for at most
// ctx or the ping timeout for a cut connection to come back. After Close it returns ErrClosed, and an *ArgumentError
// without a ctx. Safe for concurrent use.
func (n *RedisNotificationSystem) HealthCheck(ctx context.Context) error {
	if n.none() {
		return errNoSystem()
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	if n.closed() {
		return ErrClosed
	}
	if err := n.pump.refusals.err(); err != nil {
		return err
	}
	if n.registry.subscribers() == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, n.set.pingTimeout)
	defer cancel()
	for {
		up, changed, cause := n.pump.status()
		if up {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(ErrNotLive, cause)
		}
	}
	if err := n.pump.unreliable(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotLive, err)
	}
	if age := n.heartbeatAge(time.Now()); age > n.set.deadline() {
		return fmt.Errorf("%w: no heartbeat for %v", ErrNotLive, age.Round(time.Millisecond))
	}
	return nil
}

// Alive is for liveness: it returns an error only if the system's own goroutines stopped or hang, whatever the
// state of Redis. It returns nil before the first Subscribe and after Close. It sends nothing. Safe for concurrent
// use.
func (n *RedisNotificationSystem) Alive() error {
	if n.none() {
		return errNoSystem()
	}
	return n.pump.alive(time.Now())
}

// heartbeatAge returns how long ago a heartbeat came back, 0 if none is expected.
func (n *RedisNotificationSystem) heartbeatAge(now time.Time) time.Duration {
	last := n.pump.lastBeat.Load()
	if last == 0 || n.closed() {
		return 0
	}
	return max(0, now.Sub(time.Unix(0, last)))
}
