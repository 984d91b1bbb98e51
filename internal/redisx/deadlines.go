package redisx

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// HeedsDeadlines reports whether c is known to return at the deadline of a context, as clients of go-redis do with
// ContextTimeoutEnabled. Others return with the reply, or after ReadTimeout, and that again for each retry. A client of
// another kind is not known to, unless it wraps one of these (see Unwrap).
func HeedsDeadlines(c redis.UniversalClient) bool {
	if single, ok := Unwrap[*redis.Client](c); ok {
		return single.Options().ContextTimeoutEnabled
	}
	if cluster, ok := Unwrap[*redis.ClusterClient](c); ok {
		return cluster.Options().ContextTimeoutEnabled
	}
	return false
}

// WithDeadline is [context.WithDeadline] for any ctx: that one sets no timer where ctx has an earlier deadline, and a context
// of somebody's own may have a deadline and never end.
func WithDeadline(ctx context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	if earlier, ok := ctx.Deadline(); ok && earlier.Before(deadline) {
		deadline = earlier
	}
	return context.WithDeadline(ctx, deadline)
}

// WithTimeout is [WithDeadline] for a time from now on.
func WithTimeout(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return WithDeadline(ctx, time.Now().Add(limit))
}

// maxNotice is how much later than its deadline a context may end: those of other packages do as they like.
const maxNotice = 20 * time.Millisecond

// Ended reports whether a caller's context has ended. What keeps to the deadline of a context by itself, such as a connection or
// a queue, may notice a moment earlier than the context does.
func Ended(ctx context.Context) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < time.Millisecond {
		timer := time.NewTimer(maxNotice)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	return ctx.Err() != nil
}
