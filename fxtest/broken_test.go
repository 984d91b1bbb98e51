package fxtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/lock"
	"github.com/compozy/cache/notification"
)

// A contract is worth what it notices: each implementation below breaks one
// promise, and the contract must say so.

// recorder takes the failures of a contract in place of the real test.
type recorder struct {
	testing.TB
	mu     sync.Mutex // guards failed
	failed bool
}

func (r *recorder) fail() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}

func (r *recorder) Error(...any)          { r.fail() }
func (r *recorder) Errorf(string, ...any) { r.fail() }

// stopped is what Fatalf panics with, to leave the test it belongs to.
type stopped struct{}

func (r *recorder) Fatalf(string, ...any) {
	r.fail()
	panic(stopped{})
}

func (r *recorder) Fatal(...any) { r.Fatalf("") }

// notices reports whether the test of promise fails for what newSubject returns.
// It runs in a bubble, where waiting in vain takes no time.
func notices[T any](t *testing.T, contract []contractCase[T], promise string, newSubject func() T) (failed bool) {
	t.Helper()
	i := slices.IndexFunc(contract, func(c contractCase[T]) bool { return c.promise == promise })
	require.GreaterOrEqual(t, i, 0, "no such promise: %s", promise)
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{TB: t}
		defer func() {
			if v := recover(); v != nil && v != any(stopped{}) {
				panic(v)
			}
			failed = r.failed
		}()
		subject := newSubject()
		if s, ok := any(subject).(interface{ end() }); ok {
			defer s.end()
		}
		contract[i].test(r, subject)
	})
	return failed
}

// lockFunc is a manager whose Acquire is given.
type lockFunc func(ctx context.Context, resource string, ttl time.Duration) (lock.Lock, error)

func (f lockFunc) Acquire(ctx context.Context, resource string, ttl time.Duration) (lock.Lock, error) {
	return f(ctx, resource, ttl)
}

// lockWith is a lock with some methods replaced.
type lockWith struct {
	*Lock
	release, refresh func(context.Context) error
	isHeld           func() bool
}

func (l *lockWith) Release(ctx context.Context) error {
	if l.release != nil {
		return l.release(ctx)
	}
	return l.Lock.Release(ctx)
}

func (l *lockWith) Refresh(ctx context.Context) error {
	if l.refresh != nil {
		return l.refresh(ctx)
	}
	return l.Lock.Refresh(ctx)
}

func (l *lockWith) IsHeld() bool {
	if l.isHeld != nil {
		return l.isHeld()
	}
	return l.Lock.IsHeld()
}

// wrap returns managers whose locks are changed by change.
func wrap(change func(m *LockManager, l *lockWith)) func() lock.LockManager {
	return func() lock.LockManager {
		m := NewLockManager()
		return lockFunc(func(ctx context.Context, resource string, ttl time.Duration) (lock.Lock, error) {
			l, err := m.Acquire(ctx, resource, ttl)
			if err != nil {
				return nil, err
			}
			fake, _ := l.(*Lock)
			changed := &lockWith{Lock: fake}
			change(m, changed)
			return changed, nil
		})
	}
}

// around returns managers whose Acquire is acquire.
func around(acquire func(m *LockManager, ctx context.Context, resource string, ttl time.Duration) (lock.Lock, error)) func() lock.LockManager {
	return func() lock.LockManager {
		m := NewLockManager()
		return lockFunc(func(ctx context.Context, resource string, ttl time.Duration) (lock.Lock, error) {
			return acquire(m, ctx, resource, ttl)
		})
	}
}

func TestLockContractNotices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		promise string
		manager func() lock.LockManager
	}{
		"no exclusion": {"a held resource is refused until it is released", around(func(m *LockManager, ctx context.Context, resource string, ttl time.Duration) (lock.Lock, error) {
			m.Lose(resource)
			return m.Acquire(ctx, resource, ttl)
		})},
		"exclusion that is not atomic": {"of many that try at once at most one gets the lock", around(func(m *LockManager, ctx context.Context, resource string, ttl time.Duration) (lock.Lock, error) {
			if len(m.Held()) > 0 {
				return nil, lock.ErrLockNotAcquired
			}
			time.Sleep(time.Millisecond) // in a bubble: the window of the race that the contract must hit
			m.Lose(resource)
			return m.Acquire(ctx, resource, ttl)
		})},
		"no renewal": {"a held lock outlives its TTL", func() lock.LockManager {
			m := NewLockManager()
			m.Stall()
			return m
		}},
		"IsHeld does not notice the release": {"a lock knows its resource and whether it is held", wrap(func(_ *LockManager, l *lockWith) {
			l.isHeld = func() bool { return true }
		})},
		"Release is silent when repeated": {"a second release changes nothing", wrap(func(_ *LockManager, l *lockWith) {
			l.release = func(ctx context.Context) error { _ = l.Lock.Release(ctx); return nil }
		})},
		"Release frees what another holds": {"a second release changes nothing", wrap(func(m *LockManager, l *lockWith) {
			l.release = func(ctx context.Context) error {
				err := l.Lock.Release(ctx)
				m.Lose(l.Resource())
				return err
			}
		})},
		"Release heeds its context": {"a lock is released after its context has ended", wrap(func(_ *LockManager, l *lockWith) {
			l.release = func(ctx context.Context) error {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return l.Lock.Release(ctx)
			}
		})},
		"Refresh revives": {"refresh works on held locks only", wrap(func(_ *LockManager, l *lockWith) {
			l.refresh = func(context.Context) error { return nil }
		})},
		"cancelled means refused": {"a cancelled acquisition leaves nothing behind", around(func(m *LockManager, ctx context.Context, resource string, ttl time.Duration) (lock.Lock, error) {
			l, err := m.Acquire(ctx, resource, ttl)
			if err != nil {
				return nil, lock.ErrLockNotAcquired
			}
			return l, nil
		})},
		"cancelled, but done": {"a cancelled acquisition leaves nothing behind", around(func(m *LockManager, ctx context.Context, resource string, ttl time.Duration) (lock.Lock, error) {
			l, err := m.Acquire(context.WithoutCancel(ctx), resource, ttl)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return l, err
		})},
		"the lock dies with its context": {"a lock outlives the context it was acquired with", around(func(m *LockManager, ctx context.Context, resource string, ttl time.Duration) (lock.Lock, error) {
			l, err := m.Acquire(ctx, resource, ttl)
			if err != nil {
				return nil, err
			}
			fake, _ := l.(*Lock)
			return &lockWith{Lock: fake, isHeld: func() bool { return ctx.Err() == nil && fake.IsHeld() }}, nil
		})},
		"input is not checked": {"bad input is refused", around(func(m *LockManager, ctx context.Context, resource string, ttl time.Duration) (lock.Lock, error) {
			return m.Acquire(ctx, resource, max(ttl, minTTL))
		})},
		"a nil that is none": {"a held resource is refused until it is released", around(func(m *LockManager, ctx context.Context, resource string, ttl time.Duration) (lock.Lock, error) {
			l, err := m.Acquire(ctx, resource, ttl)
			fake, _ := l.(*Lock)
			return fake, err
		})},
		"names are mixed up": {"any name is a resource", around(func(m *LockManager, ctx context.Context, resource string, ttl time.Duration) (lock.Lock, error) {
			if resource == "" {
				return nil, &lock.ArgumentError{Argument: "resource", Reason: "is empty"}
			}
			return m.Acquire(ctx, "x"+strings.Trim(resource, "{}"), ttl)
		})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.True(t, notices(t, lockContract(), c.promise, c.manager))
		})
	}
}

// system is a notification system with some methods replaced.
type system struct {
	*NotificationSystem
	workflow  func(context.Context, *notification.WorkflowEvent) error
	subscribe func(context.Context, string) notification.Subscriber
	close     func() error
}

func (s *system) PublishWorkflowEvent(ctx context.Context, e *notification.WorkflowEvent) error {
	if s.workflow != nil {
		return s.workflow(ctx, e)
	}
	return s.NotificationSystem.PublishWorkflowEvent(ctx, e)
}

func (s *system) Subscribe(ctx context.Context, pattern string) notification.Subscriber {
	if s.subscribe != nil {
		return s.subscribe(ctx, pattern)
	}
	return s.NotificationSystem.Subscribe(ctx, pattern)
}

func (s *system) Close() error {
	if s.close != nil {
		return s.close()
	}
	return s.NotificationSystem.Close()
}

// deaf is a subscriber that ignores Close.
type deaf struct{ notification.Subscriber }

func (deaf) Close() error { return nil }

func TestNotificationContractNotices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		promise string
		change  func(s *system)
	}{
		"a copy per channel": {"copies of one event are delivered once", func(s *system) {
			s.workflow = func(ctx context.Context, e *notification.WorkflowEvent) error {
				if err := s.NotificationSystem.PublishWorkflowEvent(ctx, e); err != nil {
					return err
				}
				s.Inject("workflow:"+e.ID, fmt.Sprintf(`{"id":%q,"status":%q}`, e.ID, e.Status))
				return nil
			}
		}},
		"no event ID": {"a payload carries the event, its ID and its time", func(s *system) {
			s.workflow = func(ctx context.Context, e *notification.WorkflowEvent) error {
				if e == nil {
					return notification.ErrInvalidArgument
				}
				s.Inject("workflow:"+e.ID, fmt.Sprintf(`{"id":%q,"status":%q}`, e.ID, e.Status))
				return nil
			}
		}},
		"the wrong channel": {"a workflow event reaches its channels", func(s *system) {
			s.workflow = func(ctx context.Context, e *notification.WorkflowEvent) error {
				return s.Publish(ctx, "workflow:events", e)
			}
		}},
		"no globs": {"globs match as in Redis", func(s *system) {
			s.subscribe = func(ctx context.Context, pattern string) notification.Subscriber {
				return s.NotificationSystem.Subscribe(ctx, strings.ReplaceAll(pattern, "*", `\*`))
			}
		}},
		"lost events": {"every subscriber gets every event in order", func(s *system) {
			n := 0
			s.workflow = func(ctx context.Context, e *notification.WorkflowEvent) error {
				if n++; n == 7 {
					return nil
				}
				return s.NotificationSystem.PublishWorkflowEvent(ctx, e)
			}
		}},
		"Close of a subscriber does nothing": {"a closed subscriber gets nothing and disturbs nobody", func(s *system) {
			s.subscribe = func(ctx context.Context, pattern string) notification.Subscriber {
				return deaf{s.NotificationSystem.Subscribe(ctx, pattern)}
			}
		}},
		"the context is ignored": {"the end of its context closes a subscriber", func(s *system) {
			s.subscribe = func(ctx context.Context, pattern string) notification.Subscriber {
				return s.NotificationSystem.Subscribe(context.Background(), pattern)
			}
		}},
		"Close of the system does nothing": {"closing the system closes all", func(s *system) {
			s.close = func() error { return nil }
		}},
		"refused events are delivered": {"bad events are refused", func(s *system) {
			s.workflow = func(ctx context.Context, e *notification.WorkflowEvent) error {
				if e != nil && e.ID == "" {
					s.Inject("workflow:events", `{"status":"bad"}`)
				}
				return s.NotificationSystem.PublishWorkflowEvent(ctx, e)
			}
		}},
		"a bad pattern is accepted": {"bad subscriptions are closed", func(s *system) {
			s.subscribe = func(ctx context.Context, pattern string) notification.Subscriber {
				if pattern == "" {
					pattern = "x"
				}
				return s.NotificationSystem.Subscribe(ctx, pattern)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.True(t, notices(t, notificationContract(), c.promise, func() notification.NotificationSystem {
				s := &system{NotificationSystem: NewNotificationSystem()}
				c.change(s)
				return s
			}))
		})
	}
}
