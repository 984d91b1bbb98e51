package fxtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/compozy/cache/lock"
)

type contextKey struct{}

func lockerWithLock(t testing.TB, m lock.Locker) {
	resource := unique("resource")
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), contextKey{}, "value"), patience)
	defer cancel()
	failed := errors.New("failed")
	for _, result := range []error{nil, failed} {
		runs := 0
		err := m.WithLock(ctx, resource, contractTTL, func(ctx context.Context, l lock.FencedLock) error {
			runs++
			if l == nil || !l.IsHeld() || l.Resource() != resource {
				t.Errorf("WithLock gave its function %v, not a held lock on %q", l, resource)
			}
			if ctx.Err() != nil || ctx.Value(contextKey{}) != "value" {
				t.Errorf("WithLock gave its function a context that has ended (%v) or is not of the caller's", ctx.Err())
			}
			refused(t, m, resource)
			return result
		})
		if runs != 1 || !errors.Is(err, result) {
			t.Errorf("WithLock ran its function %d times and returned %v, want once and %v", runs, err, result)
		}
		becomesFree(t, m, resource)
	}

	// It waits, and runs nothing without a lock.
	holder := tryAcquire(t, m, resource)
	defer letGo(holder)
	waiting, giveUp := context.WithTimeout(t.Context(), arrival)
	defer giveUp()
	err := m.WithLock(waiting, resource, contractTTL, func(context.Context, lock.FencedLock) error {
		t.Errorf("WithLock ran its function while somebody else held the lock")
		return nil
	})
	wantNoLock(t, nil, err, context.DeadlineExceeded)
	time.AfterFunc(arrival, func() { letGo(holder) })
	must(t, m.WithLock(ctx, resource, contractTTL, func(context.Context, lock.FencedLock) error {
		if holder.IsHeld() {
			t.Errorf("WithLock ran its function before the holder released")
		}
		return nil
	}), "WithLock behind a holder that releases")
}

func lockerPanic(t testing.TB, m lock.Locker) {
	resource := unique("resource")
	func() {
		defer func() {
			if v := recover(); v != any(resource) {
				t.Errorf("WithLock passed on the panic %v, want %v", v, resource)
			}
		}()
		_ = m.WithLock(t.Context(), resource, contractTTL, func(context.Context, lock.FencedLock) error { panic(resource) })
	}()
	becomesFree(t, m, resource)
}

func lockerWithLockContext(t testing.TB, m lock.Locker) {
	resource := unique("resource")
	// The end of the caller's context reaches the function, and the lock is released all the same.
	caller, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := m.WithLock(caller, resource, contractTTL, func(ctx context.Context, l lock.FencedLock) error {
		cancel()
		ends(t, ctx, context.Canceled, "WithLock whose caller's context has ended")
		if !l.IsHeld() {
			t.Errorf("the lock ended with the context of WithLock")
		}
		return ctx.Err()
	})
	wantError(t, err, context.Canceled, "WithLock returns the error of its function")
	becomesFree(t, m, resource)

	// So does a release by the function, which is no loss.
	must(t, m.WithLock(t.Context(), resource, contractTTL, func(ctx context.Context, l lock.FencedLock) error {
		must(t, l.Release(t.Context()), "releasing")
		ends(t, ctx, lock.ErrLockNotHeld, "WithLock whose function has released the lock")
		return nil
	}), "WithLock whose function has released the lock")
	becomesFree(t, m, resource)

	closer, ok := m.(closer)
	if !ok {
		return
	}
	failed := errors.New("failed")
	err = m.WithLock(t.Context(), resource, contractTTL, func(ctx context.Context, _ lock.FencedLock) error {
		must(t, closer.Close(t.Context()), "closing")
		ends(t, ctx, lock.ErrManagerClosed, "WithLock whose lock is lost")
		return failed
	})
	wantError(t, err, failed, "WithLock returns the error of its function")
	wantError(t, err, lock.ErrManagerClosed, "and that the lock was lost meanwhile")
}

// ends waits for the end of a context and checks its cause.
func ends(t testing.TB, ctx context.Context, cause error, what string) {
	t.Helper()
	within(t, ctx.Done(), "the end of the context of "+what)
	wantError(t, context.Cause(ctx), cause, "cause of the context of "+what)
}
