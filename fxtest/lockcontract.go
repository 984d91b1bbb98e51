package fxtest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/compozy/cache/lock"
)

const (
	// contractTTL is so long that a busy machine does not lose a lock by being late.
	// Nothing waits for it to pass.
	contractTTL = 30 * time.Second
	// renewalTTL is what one subtest lets pass.
	renewalTTL = 3 * time.Second
)

// LockManagerContract runs subtests that check what users of a
// lock.LockManager rely on. newManager returns a manager that is ready for use
// and arranges for its own clean-up; each subtest calls it once. Managers may
// share a server, as resource names are unique.
//
// One subtest takes about six seconds, because it lets a TTL pass.
func LockManagerContract(t *testing.T, newManager func(t testing.TB) lock.LockManager) {
	t.Helper()
	for _, c := range lockContract() {
		t.Run(c.promise, func(t *testing.T) { c.test(t, newManager(t)) })
	}
}

func lockContract() []contractCase[lock.LockManager] {
	return []contractCase[lock.LockManager]{
		{"a held resource is refused until it is released", lockExclusive},
		{"of many that try at once at most one gets the lock", lockRace},
		{"a lock knows its resource and whether it is held", lockState},
		{"a second release changes nothing", lockReleaseTwice},
		{"a held lock outlives its TTL", lockRenewal},
		{"a cancelled acquisition leaves nothing behind", lockCancelled},
		{"a lock outlives the context it was acquired with", lockOutlivesContext},
		{"a lock is released after its context has ended", lockReleaseCancelled},
		{"refresh works on held locks only", lockRefresh},
		{"bad input is refused", lockBadInput},
		{"any name is a resource", lockNames},
	}
}

func lockExclusive(t testing.TB, m lock.LockManager) {
	resource := unique("resource")
	l := acquire(t, m, resource)
	start := time.Now()
	refused(t, m, resource)
	if waited := time.Since(start); waited > patience/2 {
		t.Errorf("a refused Acquire must return at once, it took %v", waited)
	}
	other := acquire(t, m, unique("other"))
	must(t, other.Release(t.Context()), "releasing the other resource")
	refused(t, m, resource)
	for range 20 { // a released resource is free at once, not soon
		must(t, l.Release(t.Context()), "releasing")
		l = acquire(t, m, resource)
	}
	must(t, l.Release(t.Context()), "releasing")
}

func lockRace(t testing.TB, m lock.LockManager) {
	resource := unique("resource")
	for range 5 {
		var winners atomic.Int64
		var winner atomic.Value
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				l, err := m.Acquire(t.Context(), resource, contractTTL)
				switch {
				case err == nil:
					winners.Add(1)
					winner.Store(l)
				case !errors.Is(err, lock.ErrLockNotAcquired):
					t.Errorf("Acquire: got %v, want ErrLockNotAcquired", err)
				}
			})
		}
		wg.Wait()
		// There may be none: several servers that vote can all be won by different
		// callers. Then the resource must be free again.
		switch n := winners.Load(); n {
		case 0:
			becomesFree(t, m, resource)
		case 1:
			l, _ := winner.Load().(lock.Lock)
			must(t, l.Release(t.Context()), "releasing")
		default:
			t.Fatalf("%d of 20 got the lock", n)
		}
	}
}

func lockState(t testing.TB, m lock.LockManager) {
	resource := unique("resource")
	l := acquire(t, m, resource)
	if got := l.Resource(); got != resource {
		t.Errorf("Resource: got %q, want %q", got, resource)
	}
	must(t, l.Release(t.Context()), "releasing")
	if l.IsHeld() {
		t.Error("IsHeld after Release: got true")
	}
	if got := l.Resource(); got != resource {
		t.Errorf("Resource after Release: got %q, want %q", got, resource)
	}
}

func lockReleaseTwice(t testing.TB, m lock.LockManager) {
	resource := unique("resource")
	first := acquire(t, m, resource)
	must(t, first.Release(t.Context()), "releasing")
	wantError(t, first.Release(t.Context()), lock.ErrLockNotHeld, "second Release")

	second := acquire(t, m, resource)
	wantError(t, first.Release(t.Context()), lock.ErrLockNotHeld, "Release while another holds the resource")
	wantError(t, first.Refresh(t.Context()), lock.ErrLockNotHeld, "Refresh while another holds the resource")
	refused(t, m, resource)
	if first.IsHeld() || !second.IsHeld() {
		t.Errorf("IsHeld: got %t for the first and %t for the second holder", first.IsHeld(), second.IsHeld())
	}
	must(t, second.Release(t.Context()), "releasing")
}

func lockRenewal(t testing.TB, m lock.LockManager) {
	resource := unique("resource")
	l := acquireFor(t, m, resource, renewalTTL)
	end := time.NewTimer(2 * renewalTTL) // a single renewal does not last for so long
	defer end.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting; {
		select {
		case <-end.C:
			waiting = false
		case <-tick.C:
		}
		if !l.IsHeld() {
			t.Fatal("IsHeld turned false, and nobody released the lock")
		}
		refused(t, m, resource)
	}
	must(t, l.Release(t.Context()), "releasing")
	must(t, acquire(t, m, resource).Release(t.Context()), "releasing")
}

func lockCancelled(t testing.TB, m lock.LockManager) {
	resource := unique("resource")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	l, err := m.Acquire(cancelled, resource, contractTTL)
	wantNoLock(t, l, err, context.Canceled)

	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	l, err = m.Acquire(late, resource, contractTTL)
	wantNoLock(t, l, err, context.DeadlineExceeded)

	// Cancelled at any moment, an acquisition either succeeds or leaves nothing.
	var tried []string
	for i := range 20 {
		tried = append(tried, unique("resource"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*50*time.Microsecond)
		l, err := m.Acquire(ctx, tried[i], time.Minute)
		cancel()
		if err == nil {
			must(t, l.Release(t.Context()), "releasing")
		} else {
			wantNoLock(t, l, err, context.DeadlineExceeded)
		}
	}
	for _, resource := range tried {
		becomesFree(t, m, resource)
	}
	must(t, acquire(t, m, resource).Release(t.Context()), "releasing")
}

func lockOutlivesContext(t testing.TB, m lock.LockManager) {
	resource := unique("resource")
	ctx, cancel := context.WithCancel(t.Context())
	l, err := m.Acquire(ctx, resource, contractTTL)
	must(t, err, "acquiring")
	cancel()
	if !l.IsHeld() {
		t.Error("IsHeld: got false after the end of the acquiring context")
	}
	refused(t, m, resource)
	must(t, l.Refresh(t.Context()), "refreshing")
	must(t, l.Release(t.Context()), "releasing")
}

func lockReleaseCancelled(t testing.TB, m lock.LockManager) {
	resource := unique("resource")
	l := acquire(t, m, resource)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, l.Release(ctx), "releasing with a cancelled context")
	must(t, acquire(t, m, resource).Release(t.Context()), "releasing")
}

func lockRefresh(t testing.TB, m lock.LockManager) {
	resource := unique("resource")
	l := acquire(t, m, resource)
	for range 3 {
		must(t, l.Refresh(t.Context()), "refreshing a held lock")
	}
	refused(t, m, resource)
	must(t, l.Release(t.Context()), "releasing")
	wantError(t, l.Refresh(t.Context()), lock.ErrLockNotHeld, "Refresh after Release")
	if l.IsHeld() {
		t.Error("Refresh brought a released lock back")
	}
	must(t, acquire(t, m, resource).Release(t.Context()), "releasing")
}

func lockBadInput(t testing.TB, m lock.LockManager) {
	resource := unique("resource")
	var noContext context.Context
	for name, try := range map[string]func() (lock.Lock, error){
		"nil context":    func() (lock.Lock, error) { return m.Acquire(noContext, resource, contractTTL) },
		"empty resource": func() (lock.Lock, error) { return m.Acquire(t.Context(), "", contractTTL) },
		"zero TTL":       func() (lock.Lock, error) { return m.Acquire(t.Context(), resource, 0) },
		"negative TTL":   func() (lock.Lock, error) { return m.Acquire(t.Context(), resource, -time.Second) },
		"TTL below 10ms": func() (lock.Lock, error) { return m.Acquire(t.Context(), resource, 9*time.Millisecond) },
	} {
		l, err := try()
		if err == nil || errors.Is(err, lock.ErrLockNotAcquired) {
			t.Errorf("Acquire with %s: got error %v", name, err)
		}
		if l != nil {
			t.Errorf("Acquire with %s: got a lock", name)
		}
	}
	must(t, acquire(t, m, resource).Release(t.Context()), "nothing was done, so releasing")
}

func lockNames(t testing.TB, m lock.LockManager) {
	suffix := unique("")
	var locks []lock.Lock
	for _, name := range []string{"a b", "a:b", "{a}b", "a}{b", "*", "[a", "ü", "\xff\x00\n", "a/../b", "%s"} {
		locks = append(locks, acquire(t, m, name+suffix)) // each is a resource of its own
	}
	for _, l := range locks {
		refused(t, m, l.Resource())
		must(t, l.Release(t.Context()), "releasing")
	}
}

// acquire gets a lock that must be free.
func acquire(t testing.TB, m lock.LockManager, resource string) lock.Lock {
	t.Helper()
	return acquireFor(t, m, resource, contractTTL)
}

func acquireFor(t testing.TB, m lock.LockManager, resource string, ttl time.Duration) lock.Lock {
	t.Helper()
	l, err := m.Acquire(t.Context(), resource, ttl)
	if err != nil {
		t.Fatalf("acquiring %q, which is free: %v", resource, err)
	}
	if l == nil || !l.IsHeld() {
		t.Fatalf("acquiring %q: got no held lock and no error", resource)
	}
	return l
}

// becomesFree waits until a resource can be acquired: a clean-up may be under
// way, but must not take as long as a TTL.
func becomesFree(t testing.TB, m lock.LockManager, resource string) {
	t.Helper()
	eventually(t, func() bool {
		l, err := m.Acquire(t.Context(), resource, contractTTL)
		if err != nil {
			return false
		}
		must(t, l.Release(t.Context()), "releasing")
		return true
	}, "a resource that nobody holds can be acquired")
}

// refused tries a resource that is held.
func refused(t testing.TB, m lock.LockManager, resource string) {
	t.Helper()
	l, err := m.Acquire(t.Context(), resource, contractTTL)
	wantNoLock(t, l, err, lock.ErrLockNotAcquired)
}

// wantNoLock checks the result of an Acquire that must fail: exactly one of
// "held by somebody", the context's own error and so on, and a nil that is one.
func wantNoLock(t testing.TB, l lock.Lock, err, want error) {
	t.Helper()
	if l != nil {
		t.Errorf("Acquire: got a lock (%T) besides the error %v; nil of a concrete type is not nil", l, err)
	}
	for _, kind := range []error{
		lock.ErrLockNotAcquired, lock.ErrManagerClosed, lock.ErrRedis, lock.ErrInvalidArgument, context.Canceled, context.DeadlineExceeded,
	} {
		if got := errors.Is(err, kind); got != (kind == want) { //nolint:errorlint // the sentinel itself is meant
			t.Fatalf("Acquire: got error %v, want %v", err, want)
		}
	}
}

func wantError(t testing.TB, err, want error, what string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}
