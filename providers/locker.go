package providers

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/fx"

	"github.com/compozy/cache/lock"
)

// The Locker of an instance is its LockManager, replaced and decorated as that may be.
// There is never a second one beside it: two parts of an application that lock the same
// resource, one through either type, must exclude each other.

// replacements are what the Replace options have put into the graph.
type replacements struct {
	fx.In
	Replacements []replacement `group:"cache.replacements"`
}

// useReplaceLockManagerForLocker fails where ReplaceLockManager was given a fake that is no
// Locker. Where a decorator made the LockManager one that is none, which the module cannot
// know before, the Locker is one that refuses: applications that want no Locker go on.
func useReplaceLockManagerForLocker(i Instance) any {
	return func(m input[lock.LockManager], in replacements) (lock.Locker, error) {
		if l, ok := m.value.(lock.Locker); ok {
			return l, nil
		}
		err := fmt.Errorf("%w: the LockManager of instance %q, a %T, is no cache.Locker, which something asks for: "+
			"have it implement cache.Locker, as the fake of package fxtest does, or ask for a cache.LockManager",
			ErrInvalidOption, i.label(), m.value)
		if i.Name == "" && in.replaces(m.value) {
			return nil, err
		}
		return noLocker{m.value, err}, nil
	}
}

func (in replacements) replaces(m lock.LockManager) bool {
	for _, r := range in.Replacements {
		if same(r.value, m) {
			return true
		}
	}
	return false
}

// noLocker is the Locker of an instance whose LockManager is none.
type noLocker struct {
	lock.LockManager
	err error
}

func (l noLocker) TryAcquire(context.Context, string, time.Duration) (lock.FencedLock, error) {
	return nil, l.err
}

func (l noLocker) AcquireWait(context.Context, string, time.Duration) (lock.FencedLock, error) {
	return nil, l.err
}

func (l noLocker) WithLock(
	context.Context, string, time.Duration, func(context.Context, lock.FencedLock) error,
) error {
	return l.err
}

// unnamedLocker is the Locker that the graph has for the unnamed instance.
// ReplaceLockManager puts nil in its place where asking for a Locker is an error.
type unnamedLocker struct{ value lock.Locker }

func newUnnamedLocker(l input[lock.Locker]) unnamedLocker { return unnamedLocker(l) }

func oneWorldOfLocks(m input[lock.LockManager], l unnamedLocker) error {
	if l.value == nil {
		return nil
	}
	return refuseSplit(Instance{}, m.value, l.value)
}

func oneNamedWorldOfLocks(i Instance) any {
	return func(m input[lock.LockManager], l input[lock.Locker]) error { return refuseSplit(i, m.value, l.value) }
}

// refuseSplit returns an error for a Locker that was replaced or decorated by itself.
func refuseSplit(i Instance, m lock.LockManager, l lock.Locker) error {
	if _, none := l.(noLocker); none || same(l, m) {
		return nil
	}
	return fmt.Errorf("%w: the cache.Locker of instance %q is not its cache.LockManager: locks of the one would not "+
		"exclude those of the other. Pass a fake to cache.ReplaceLockManager, or decorate cache.LockManager with a "+
		"type that is a Locker; the cache.Locker follows", ErrInvalidOption, i.label())
}
