package fxtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/compozy/cache/lock"
)

// outcome is what a call of AcquireWait returned.
type outcome struct {
	name string
	l    lock.FencedLock
	err  error
}

// waitFor calls AcquireWait, sends what comes back to outcomes, which must have room for
// it, and returns when the call has had the time to take its place in the queue.
func waitFor(ctx context.Context, m lock.Locker, resource, name string, outcomes chan<- outcome) {
	go func() {
		l, err := m.AcquireWait(ctx, resource, contractTTL)
		outcomes <- outcome{name, l, err}
	}()
	arrive(ctx)
}

// arrive lets a call take its place in the queue, unless its context ends.
func arrive(ctx context.Context) {
	timer := time.NewTimer(arrival)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// next returns the next outcome, which must come in time.
func next(t testing.TB, outcomes <-chan outcome, what string) outcome {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case o := <-outcomes:
		return o
	case <-deadline.C:
		t.Fatalf("%s: AcquireWait did not return within %v", what, patience)
		return outcome{}
	}
}

// nextLock is next for an outcome that must be a held lock.
func nextLock(t testing.TB, outcomes <-chan outcome, what string) (lock.FencedLock, string) {
	t.Helper()
	o := next(t, outcomes, what)
	must(t, o.err, what)
	if o.l == nil || !o.l.IsHeld() {
		t.Fatalf("%s: got no held lock and no error", what)
	}
	return o.l, o.name
}

// pending fails the test if AcquireWait has returned.
func pending(t testing.TB, outcomes <-chan outcome, what string) {
	t.Helper()
	select {
	case o := <-outcomes:
		t.Fatalf("%s: AcquireWait returned %v, %v", what, o.l, o.err)
	default:
	}
}

// letGo releases a lock that a test may have released before, so that callers who wait for
// it in vain end with the test.
func letGo(l lock.Lock) { _ = l.Release(context.Background()) }

func lockerFree(t testing.TB, m lock.Locker) {
	resource := unique("resource")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	outcomes := make(chan outcome, 1)
	waitFor(ctx, m, resource, "", outcomes)
	l, _ := nextLock(t, outcomes, "waiting for a free resource")
	defer letGo(l)
	if got := l.Resource(); got != resource {
		t.Errorf("Resource: got %q, want %q", got, resource)
	}
	cancel()
	arrive(t.Context()) // if the lock ends with the context, it may do so in the background
	if !l.IsHeld() {
		t.Error("IsHeld: got false after the end of the acquiring context")
	}
	refused(t, m, resource)
	must(t, l.Refresh(t.Context()), "refreshing")
	must(t, l.Release(t.Context()), "releasing")
	wantError(t, l.Release(t.Context()), lock.ErrLockNotHeld, "second Release")
	must(t, tryAcquire(t, m, resource).Release(t.Context()), "releasing")
}

func lockerHandOver(t testing.TB, m lock.Locker) {
	resource := unique("resource")
	holder := tryAcquire(t, m, resource)
	defer letGo(holder)
	outcomes := make(chan outcome, 1)
	waitFor(t.Context(), m, resource, "", outcomes)
	pending(t, outcomes, "waiting for a lock that is held")
	must(t, tryAcquire(t, m, unique("other")).Release(t.Context()), "releasing another resource")
	pending(t, outcomes, "waiting for a lock that is held, while another is released")
	must(t, holder.Release(t.Context()), "releasing")
	l, _ := nextLock(t, outcomes, "waiting for a lock that is released")
	refused(t, m, resource)
	if holder.IsHeld() {
		t.Error("IsHeld after the lock went to the next holder: got true")
	}
	wantError(t, holder.Release(t.Context()), lock.ErrLockNotHeld, "Release while the next holder has the lock")
	refused(t, m, resource)
	must(t, l.Release(t.Context()), "releasing")
	becomesFree(t, m, resource)
}

func lockerOrder(t testing.TB, m lock.Locker) {
	const waiters = 4
	resource := unique("resource")
	holder := tryAcquire(t, m, resource)
	defer letGo(holder)
	outcomes := make(chan outcome, waiters)
	for i := range waiters {
		waitFor(t.Context(), m, resource, fmt.Sprint(i), outcomes)
	}
	last := holder.Token()
	must(t, holder.Release(t.Context()), "releasing")
	for i := range waiters {
		l, name := nextLock(t, outcomes, "waiting in a queue")
		defer letGo(l)
		if want := fmt.Sprint(i); name != want {
			t.Errorf("waiter %s was served in place of waiter %s", name, want)
		}
		if l.Token() <= last {
			t.Errorf("token %d of waiter %s comes after %d", l.Token(), name, last)
		}
		last = l.Token()
		pending(t, outcomes, "waiting for a lock that another waiter holds")
		refused(t, m, resource)
		must(t, l.Release(t.Context()), "releasing")
	}
	becomesFree(t, m, resource)
}

func lockerGivesUp(t testing.TB, m lock.Locker) {
	resource := unique("resource")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	l, err := m.AcquireWait(over, resource, contractTTL)
	wantNoFencedLock(t, l, err, context.Canceled)

	holder := tryAcquire(t, m, resource)
	defer letGo(holder)
	first, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	outcomes := make(chan outcome, 2)
	waitFor(first, m, resource, "first", outcomes)
	waitFor(t.Context(), m, resource, "second", outcomes)
	giveUp()
	o := next(t, outcomes, "waiting with a context that ends")
	wantNoFencedLock(t, o.l, o.err, context.Canceled)
	for i := range 20 { // it may end at any moment
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*50*time.Microsecond)
		l, err := m.AcquireWait(ctx, resource, contractTTL)
		cancel()
		wantNoFencedLock(t, l, err, context.DeadlineExceeded)
	}
	pending(t, outcomes, "waiting for a lock that is held")
	must(t, holder.Release(t.Context()), "releasing")
	second, _ := nextLock(t, outcomes, "waiting behind a caller that gave up")
	must(t, second.Release(t.Context()), "releasing")
	becomesFree(t, m, resource)

	for range 5 { // also at the moment of the release: then there is a lock, or nothing
		holder := acquire(t, m, unique("resource"))
		ctx, giveUp := context.WithCancel(t.Context())
		outcomes := make(chan outcome, 1)
		waitFor(ctx, m, holder.Resource(), "", outcomes)
		go giveUp()
		must(t, holder.Release(t.Context()), "releasing")
		o := next(t, outcomes, "waiting with a context that ends")
		if o.err == nil {
			must(t, o.l.Release(t.Context()), "releasing")
		} else {
			wantNoFencedLock(t, o.l, o.err, context.Canceled)
		}
		becomesFree(t, m, holder.Resource())
	}
}

func lockerClose(t testing.TB, m lock.Locker) {
	closer, ok := m.(closer)
	if !ok {
		return
	}
	resource := unique("resource")
	holder := tryAcquire(t, m, resource)
	defer letGo(holder)
	outcomes := make(chan outcome, 3)
	for range 2 {
		waitFor(t.Context(), m, resource, "", outcomes)
	}
	go func() {
		err := m.WithLock(t.Context(), resource, contractTTL, func(context.Context, lock.FencedLock) error {
			t.Errorf("WithLock ran its function after Close")
			return nil
		})
		outcomes <- outcome{err: err}
	}()
	arrive(t.Context())
	must(t, closer.Close(t.Context()), "closing")
	for range 3 {
		o := next(t, outcomes, "waiting for a lock of a Locker that is closed")
		wantNoFencedLock(t, o.l, o.err, lock.ErrManagerClosed)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, err := m.AcquireWait(ctx, resource, contractTTL)
	wantNoFencedLock(t, l, err, lock.ErrManagerClosed)
	l, err = m.TryAcquire(t.Context(), resource, contractTTL)
	wantNoFencedLock(t, l, err, lock.ErrManagerClosed)
	cancel() // the end of the caller's context comes first
	l, err = m.AcquireWait(ctx, resource, contractTTL)
	wantNoFencedLock(t, l, err, context.Canceled)
	l, err = m.TryAcquire(ctx, resource, contractTTL)
	wantNoFencedLock(t, l, err, context.Canceled)
	var noContext context.Context
	wantError(t, closer.Close(noContext), lock.ErrInvalidArgument, "Close with a nil context")
}

// wantNoFencedLock is wantNoLock for the richer results.
func wantNoFencedLock(t testing.TB, l lock.FencedLock, err, want error) {
	t.Helper()
	if l == nil {
		wantNoLock(t, nil, err, want)
		return
	}
	wantNoLock(t, l, err, want)
}
