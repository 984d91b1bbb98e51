package lifecycle

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/fx"
	"go.uber.org/zap"
)

// ErrStopping is what the readiness of an application fails with once it stops.
var ErrStopping = errors.New("cache: stopping")

// Drain takes an instance out of traffic before anything closes.
type Drain struct {
	// Delay is the time that load balancers get to notice; 0 is none.
	Delay time.Duration
	// Logger must not be nil.
	Logger *zap.Logger

	stopping atomic.Bool
}

// Check is a readiness check. It returns ErrStopping from the beginning of the stop on.
func (d *Drain) Check(context.Context) error {
	if d.stopping.Load() {
		return ErrStopping
	}
	return nil
}

// Drains are those of all instances of an application. They begin together, so that the
// delays of several instances do not add up.
type Drains []*Drain

// AppendDrains appends the hook of ds to lc. It may be appended several times; the hook
// that runs first does the work.
func AppendDrains(lc fx.Lifecycle, ds Drains) {
	lc.Append(fx.StopHook(ds.Stop))
}

// Stop is Wait within half of what remains of ctx. A delay that this cuts short is a
// warning.
func (ds Drains) Stop(ctx context.Context) {
	ctx, cancel := share(ctx, 2)
	defer cancel()
	if err := ds.Wait(ctx); err != nil {
		ds[0].Logger.Warn("cache: the drain delay was cut short, as it has half of the time to stop at most", zap.Error(err))
	}
}

// Wait makes all instances not ready, and returns after the longest of their delays, or
// with the error of ctx if that ends before. What is not ready already has no delay.
func (ds Drains) Wait(ctx context.Context) error {
	var delay time.Duration
	for _, d := range ds {
		if d.stopping.CompareAndSwap(false, true) {
			delay = max(delay, d.Delay)
		}
	}
	if delay <= 0 {
		return nil
	}
	ds[0].Logger.Info("cache: stopping, and not ready any more", zap.Duration("drain_delay", delay))
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
