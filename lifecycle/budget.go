package lifecycle

import (
	"context"
	"time"
)

// defaultBudget is assumed where a context has no deadline. It is the default
// start and stop timeout of Fx, which hook contexts normally carry.
const defaultBudget = 15 * time.Second

// share returns a context that ends after one part in n of the time that
// remains of ctx, or of 15 seconds where ctx has no deadline.
func share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	remaining := defaultBudget
	if deadline, ok := ctx.Deadline(); ok {
		remaining = time.Until(deadline)
	}
	return context.WithTimeout(ctx, remaining/time.Duration(n))
}
