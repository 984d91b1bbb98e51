package fxtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/compozy/cache/lock"
)

// arrival is what a caller gets to take its place in the queue. Nothing in the interface
// shows that it has.
const arrival = 200 * time.Millisecond

// LockerContract runs the subtests of LockManagerContract and those that check what
// users of a lock.Locker rely on beyond: fencing tokens, the queue, notice of loss, and
// WithLock. newLocker returns a Locker that is ready for use and arranges for its own
// clean-up; each subtest calls it once. Lockers may share a server, as resource names
// are unique.
//
// The interface has no way to lose a lock or to close. If the Locker has a method
// Close(context.Context) error, as that of Redis has, it is what ends locks and waiting
// in these tests; without it this part of the promises is not checked.
//
// One subtest takes about six seconds, because it lets a TTL pass.
func LockerContract(t *testing.T, newLocker func(t testing.TB) lock.Locker) {
	t.Helper()
	LockManagerContract(t, func(t testing.TB) lock.LockManager { return newLocker(t) })
	for _, c := range lockerContract() {
		t.Run(c.promise, func(t *testing.T) { c.test(t, newLocker(t)) })
	}
}

func lockerContract() []contractCase[lock.Locker] {
	return []contractCase[lock.Locker]{
		{"TryAcquire keeps the promises of Acquire", lockerTry},
		{"tokens grow with every lock on a resource", lockerTokens},
		{"Until is ahead and moves with Refresh", lockerUntil},
		{"a release ends the context and is no loss", lockerReleased},
		{"a loss is reported to the holder", lockerLost},
		{"a free resource needs no waiting", lockerFree},
		{"a waiter gets the lock after its release", lockerHandOver},
		{"waiters get the lock in the order in which they came", lockerOrder},
		{"waiting ends with the context and leaves nothing behind", lockerGivesUp},
		{"closing wakes those who wait", lockerClose},
		{"WithLock runs its function under the lock", lockerWithLock},
		{"WithLock releases after a panic", lockerPanic},
		{"the context of WithLock ends with the lock", lockerWithLockContext},
		{"bad input to TryAcquire, AcquireWait and WithLock is refused", lockerBadInput},
	}
}

// tryAcquirer shows the TryAcquire of a Locker as an Acquire.
type tryAcquirer struct{ lock.Locker }

func (a tryAcquirer) Acquire(ctx context.Context, resource string, ttl time.Duration) (lock.Lock, error) {
	l, err := a.TryAcquire(ctx, resource, ttl)
	if l == nil {
		return nil, err
	}
	return l, err
}

func lockerTry(t testing.TB, m lock.Locker) {
	for _, test := range []func(testing.TB, lock.LockManager){
		lockExclusive, lockRace, lockState, lockReleaseTwice, lockCancelled, lockOutlivesContext, lockRefresh, lockBadInput,
	} {
		test(t, tryAcquirer{m})
	}
	// They are two ways to one lock.
	resource := unique("resource")
	l := acquire(t, m, resource)
	refused(t, tryAcquirer{m}, resource)
	must(t, l.Release(t.Context()), "releasing")
	l = acquire(t, tryAcquirer{m}, resource)
	refused(t, m, resource)
	must(t, l.Release(t.Context()), "releasing")
}

func lockerTokens(t testing.TB, m lock.Locker) {
	resource := unique("resource")
	ctx, cancel := context.WithTimeout(t.Context(), patience) // in case that one of them waits in vain
	defer cancel()
	var last int64
	grows := func(l lock.FencedLock, how string) {
		t.Helper()
		token := l.Token()
		if token <= last {
			t.Errorf("token %d of %s comes after %d", token, how, last)
		}
		last = token
		refused(t, m, resource) // a refused try changes nothing
		if again := l.Token(); again != token {
			t.Errorf("the token of %s changed from %d to %d", how, token, again)
		}
	}
	for range 5 {
		for how, get := range map[string]func(context.Context, string, time.Duration) (lock.FencedLock, error){
			"TryAcquire": m.TryAcquire, "AcquireWait": m.AcquireWait,
		} {
			l, err := get(ctx, resource, contractTTL)
			must(t, err, how)
			grows(l, how)
			must(t, l.Release(t.Context()), "releasing")
		}
		l := acquire(t, m, resource) // a lock between the others is counted as well
		if fenced, ok := l.(lock.FencedLock); ok {
			grows(fenced, "Acquire")
		}
		must(t, l.Release(t.Context()), "releasing")
		must(t, m.WithLock(ctx, resource, contractTTL, func(_ context.Context, l lock.FencedLock) error {
			grows(l, "WithLock")
			return nil
		}), "WithLock")
	}
}

func lockerUntil(t testing.TB, m lock.Locker) {
	l := tryAcquire(t, m, unique("resource"))
	before := l.Until()
	if left := time.Until(before); left <= 0 || left > contractTTL {
		t.Errorf("Until of a new lock is %v ahead, its TTL is %v", left, contractTTL)
	}
	must(t, l.Refresh(t.Context()), "refreshing")
	if after := l.Until(); after.Before(before) {
		t.Errorf("Refresh moved Until back by %v", before.Sub(after))
	}
	must(t, l.Release(t.Context()), "releasing")
	if one, other := l.Until(), l.Until(); !one.Equal(other) {
		t.Errorf("Until moves after Release, from %v to %v", one, other)
	}
}

func lockerReleased(t testing.TB, m lock.Locker) {
	resource := unique("resource")
	early, late := tryAcquire(t, m, resource), tryAcquire(t, m, unique("other"))
	lost, ctx := early.Lost(), early.Context()
	if ended(lost) || ended(ctx.Done()) {
		t.Error("Lost or Context has ended, and the lock is held")
	}
	must(t, early.Refresh(t.Context()), "refreshing")
	for _, l := range []lock.FencedLock{early, late} {
		must(t, l.Release(t.Context()), "releasing")
	}
	within(t, ctx.Done(), "the end of Context after Release")
	within(t, late.Context().Done(), "the end of a Context that is asked for after Release")
	for _, ctx := range []context.Context{ctx, late.Context()} {
		wantError(t, context.Cause(ctx), lock.ErrLockNotHeld, "cause of Context after Release")
		for _, loss := range []error{lock.ErrLockExpired, lock.ErrLockStolen, lock.ErrManagerClosed} {
			if errors.Is(context.Cause(ctx), loss) {
				t.Errorf("cause of Context after Release: %v is that of a loss", context.Cause(ctx))
			}
		}
	}
	must(t, tryAcquire(t, m, resource).Release(t.Context()), "releasing")
	if ended(lost) || ended(early.Lost()) || ended(late.Lost()) {
		t.Error("Lost is closed, and the lock was released")
	}
}

func lockerLost(t testing.TB, m lock.Locker) {
	closer, ok := m.(closer)
	if !ok {
		return
	}
	watched, other := tryAcquire(t, m, unique("resource")), tryAcquire(t, m, unique("resource"))
	released := tryAcquire(t, m, unique("resource"))
	must(t, released.Release(t.Context()), "releasing")
	lost, ctx := watched.Lost(), watched.Context()
	must(t, closer.Close(t.Context()), "closing")
	within(t, lost, "Lost after Close")
	within(t, ctx.Done(), "the end of Context after Close")
	within(t, other.Lost(), "a Lost that is asked for after Close")
	within(t, other.Context().Done(), "the end of a Context that is asked for after Close")
	for _, l := range []lock.FencedLock{watched, other} {
		wantError(t, context.Cause(l.Context()), lock.ErrManagerClosed, "cause of Context after Close")
		if l.IsHeld() {
			t.Error("IsHeld after Close: got true")
		}
		err := l.Release(t.Context())
		wantError(t, err, lock.ErrLockNotHeld, "Release after Close")
		wantError(t, err, lock.ErrManagerClosed, "Release after Close")
	}
	if ended(released.Lost()) {
		t.Error("Close reports the loss of a lock that was released before")
	}
}

func lockerBadInput(t testing.TB, m lock.Locker) {
	resource := unique("resource")
	ctx, cancel := context.WithTimeout(t.Context(), patience) // in case that one of them waits
	defer cancel()
	var noContext context.Context
	never := func(context.Context, lock.FencedLock) error {
		t.Errorf("WithLock ran its function on bad input")
		return nil
	}
	for name, in := range map[string]struct {
		ctx      context.Context
		resource string
		ttl      time.Duration
	}{
		"nil context":    {noContext, resource, contractTTL},
		"empty resource": {ctx, "", contractTTL},
		"zero TTL":       {ctx, resource, 0},
		"negative TTL":   {ctx, resource, -time.Second},
		"TTL below 10ms": {ctx, resource, 9 * time.Millisecond},
	} {
		tried, err := m.TryAcquire(in.ctx, in.resource, in.ttl)
		badInput(t, tried, err, "TryAcquire with "+name)
		waited, err := m.AcquireWait(in.ctx, in.resource, in.ttl)
		badInput(t, waited, err, "AcquireWait with "+name)
		badInput(t, nil, m.WithLock(in.ctx, in.resource, in.ttl, never), "WithLock with "+name)
	}
	badInput(t, nil, m.WithLock(ctx, resource, contractTTL, nil), "WithLock with nil function")
	must(t, tryAcquire(t, m, resource).Release(t.Context()), "nothing was done, so releasing")
}

// badInput checks the result of a call with an argument that cannot be used.
func badInput(t testing.TB, l lock.FencedLock, err error, what string) {
	t.Helper()
	if l != nil {
		t.Errorf("%s: got a lock (%T)", what, l)
	}
	for _, other := range []error{
		nil, lock.ErrLockNotAcquired, lock.ErrManagerClosed, lock.ErrRedis, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, other) {
			t.Errorf("%s: got error %v", what, err)
		}
	}
}

// closer is what a Locker should have to end locks and waiting.
type closer interface {
	Close(ctx context.Context) error
}

// tryAcquire gets a lock that must be free.
func tryAcquire(t testing.TB, m lock.Locker, resource string) lock.FencedLock {
	t.Helper()
	l, err := m.TryAcquire(t.Context(), resource, contractTTL)
	if err != nil {
		t.Fatalf("acquiring %q, which is free: %v", resource, err)
	}
	if l == nil || !l.IsHeld() {
		t.Fatalf("acquiring %q: got no held lock and no error", resource)
	}
	return l
}

// ended reports whether a channel is closed.
func ended(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// within ends the test if a channel is not closed in time.
func within(t testing.TB, c <-chan struct{}, what string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case <-c:
	case <-deadline.C:
		t.Fatalf("%s: not after %v", what, patience)
	}
}
