package redisx

import (
	"context"
	"math/rand/v2"
	"time"
)

// Sleep waits for d. It returns nil then, and the context's error if ctx ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Backoff is the pause before a repetition, of which the first is number 1. It
// doubles from low up to high, and half of it is random, so that many clients do
// not come back in step.
func Backoff(number int, low, high time.Duration) time.Duration {
	d := high
	if shift := max(number-1, 0); shift < 32 && low < high>>shift {
		d = low << shift
	}
	return d/2 + rand.N(d/2+1)
}
