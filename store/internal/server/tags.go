package server

import (
	"context"
	"time"

	"github.com/compozy/cache/store/internal/entry"
)

// spare is for how much longer than it has to an epoch is made to last, so that this is seldom done.
const spare = 24 * time.Hour

// Epoch returns the epoch of a tag, and begins one if there is none. It lasts for as long as given at least, unless it is
// invalidated or lost. The error is [entry.ErrForeign] if something else has written the key.
func (r *Redis) Epoch(ctx context.Context, key string, lasts time.Duration) (string, error) {
	fresh := entry.NewID()
	reply, _, err := r.Run(ctx, r.scripts.epoch, []string{key}, func(bool) []any {
		return []any{fresh, lasts.Milliseconds(), (lasts + spare).Milliseconds()}
	})
	if err != nil {
		return "", err
	}
	parts, _ := reply.([]any)
	switch {
	case len(parts) == 2 && parts[0] == "epoch":
		if epoch, ok := parts[1].(string); ok {
			return epoch, nil
		}
	case len(parts) == 1 && parts[0] == "foreign":
		return "", entry.ErrForeign
	}
	return "", errUnexpected
}

// Invalidate ends the epoch of a tag. It may be executed twice: that costs other loads, no more.
func (r *Redis) Invalidate(ctx context.Context, key string) Reply {
	return r.write(ctx, r.scripts.invalidate, []string{key}, func(bool) []any { return []any{r.channel} })
}
