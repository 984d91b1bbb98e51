package lock

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/unwrap"
)

// bounded carries what another context carries, such as a trace, but not its end: it has a deadline of its own, for
// which go-redis sets the deadlines of the connection. It needs no timer and nobody has to cancel it, which matters as
// there is one for every call; so it has no Done channel either, and who waits must watch the clock.
type bounded struct {
	context.Context
	deadline time.Time
}

var _ context.Context = bounded{}

// Deadline implements context.Context.
func (b bounded) Deadline() (time.Time, bool) { return b.deadline, true }

// Done implements context.Context.
func (bounded) Done() <-chan struct{} { return nil }

// Err implements context.Context.
func (b bounded) Err() error {
	if time.Now().Before(b.deadline) {
		return nil
	}
	return context.DeadlineExceeded
}

// await runs f, which does not take longer than the round's deadline if all clients heed contexts, and reports whether
// it came to an end in time. If not, it goes on in the background. Before that, the end of ctx ends the waiting.
func (m *RedisLockManager) await(ctx context.Context, r *round, f func()) bool {
	if m.heeds && ctx.Done() == nil {
		f() // nothing to watch: save the switch to another goroutine
		return true
	}
	done := make(chan struct{})
	m.tasks.spawn(func() {
		f()
		close(done)
	})
	timer := time.NewTimer(r.left())
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	select {
	case <-done: // at the same time
		return true
	default:
		return false
	}
}

// heeds reports whether a client is known to stop waiting when the deadline of a context is over.
func heeds(client redis.UniversalClient) bool {
	if c, ok := unwrap.As[*redis.Client](client); ok {
		return c.Options().ContextTimeoutEnabled
	}
	if c, ok := unwrap.As[*redis.ClusterClient](client); ok {
		return c.Options().ContextTimeoutEnabled
	}
	return false
}
