package lifecycle

import (
	"context"
	"fmt"

	"go.uber.org/fx"
)

// shareOfStop is the divisor of what a part may use of the remaining stop
// budget. Three parts at a fifth each stay below half of the whole.
const shareOfStop = 5

// Locks stops a lock manager. Nothing happens at start: a manager begins to
// work with the first lock.
type Locks struct {
	Manager interface {
		Close(ctx context.Context) error
	}
}

// AppendLocks appends the hook of l to lc.
func AppendLocks(lc fx.Lifecycle, l *Locks) {
	lc.Append(fx.StopHook(l.Stop))
}

// Stop refuses further acquisitions and releases what is held, within a fifth
// of what remains of ctx.
func (l *Locks) Stop(ctx context.Context) error {
	ctx, cancel := share(ctx, shareOfStop)
	defer cancel()
	if err := l.Manager.Close(ctx); err != nil {
		return fmt.Errorf("cache: closing locks: %w", err)
	}
	return nil
}

// Notifications stops a notification system. Nothing happens at start: it
// connects with the first subscription.
type Notifications struct {
	System interface {
		Shutdown(ctx context.Context) error
	}
}

// AppendNotifications appends the hook of n to lc.
func AppendNotifications(lc fx.Lifecycle, n *Notifications) {
	lc.Append(fx.StopHook(n.Stop))
}

// Stop delivers what is buffered, for at most a fifth of what remains of ctx,
// then closes all subscriptions.
func (n *Notifications) Stop(ctx context.Context) error {
	ctx, cancel := share(ctx, shareOfStop)
	defer cancel()
	if err := n.System.Shutdown(ctx); err != nil {
		return fmt.Errorf("cache: closing notifications: %w", err)
	}
	return nil
}

// Store stops a store. Nothing happens at start: a store begins to work when it
// is first used.
type Store struct {
	Store interface {
		Close(ctx context.Context) error
	}
}

// AppendStore appends the hook of s to lc.
func AppendStore(lc fx.Lifecycle, s *Store) {
	lc.Append(fx.StopHook(s.Stop))
}

// Stop refuses further calls, cancels the loads under way and waits until all has
// ended, for at most a fifth of what remains of ctx.
func (s *Store) Stop(ctx context.Context) error {
	ctx, cancel := share(ctx, shareOfStop)
	defer cancel()
	if err := s.Store.Close(ctx); err != nil {
		return fmt.Errorf("cache: closing the store: %w", err)
	}
	return nil
}
