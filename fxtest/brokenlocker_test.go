package fxtest

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/compozy/cache/lock"
)

// brokenLocker is the fake with some methods replaced, and locks that are changed.
type brokenLocker struct {
	*LockManager
	try      func(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error)
	wait     func(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error)
	withLock func(ctx context.Context, resource string, ttl time.Duration, fn func(context.Context, lock.FencedLock) error) error
	closing  func(ctx context.Context) error
	change   func(l *brokenLock)
}

func (m *brokenLocker) TryAcquire(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
	if m.try != nil {
		return m.try(ctx, resource, ttl)
	}
	return m.broken(m.LockManager.TryAcquire(ctx, resource, ttl))
}

func (m *brokenLocker) AcquireWait(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
	if m.wait != nil {
		return m.wait(ctx, resource, ttl)
	}
	return m.broken(m.LockManager.AcquireWait(ctx, resource, ttl))
}

func (m *brokenLocker) WithLock(
	ctx context.Context, resource string, ttl time.Duration, fn func(context.Context, lock.FencedLock) error,
) error {
	if m.withLock != nil {
		return m.withLock(ctx, resource, ttl, fn)
	}
	return m.LockManager.WithLock(ctx, resource, ttl, fn)
}

func (m *brokenLocker) Close(ctx context.Context) error {
	if m.closing != nil {
		return m.closing(ctx)
	}
	return m.LockManager.Close(ctx)
}

// end wakes what still waits, as a bubble has to end without goroutines.
func (m *brokenLocker) end() { _ = m.LockManager.Close(context.Background()) }

func (m *brokenLocker) broken(l lock.FencedLock, err error) (lock.FencedLock, error) {
	fake, ok := l.(*Lock)
	if !ok || m.change == nil {
		return l, err
	}
	changed := &brokenLock{Lock: fake, token: fake.token, ctx: fake.ctx, lost: fake.lost, until: fake.Until}
	m.change(changed)
	return changed, nil
}

// brokenLock is a lock whose richer side is given.
type brokenLock struct {
	*Lock
	token int64
	ctx   context.Context
	lost  <-chan struct{}
	until func() time.Time
}

func (l *brokenLock) Token() int64             { return l.token }
func (l *brokenLock) Context() context.Context { return l.ctx }
func (l *brokenLock) Lost() <-chan struct{}    { return l.lost }
func (l *brokenLock) Until() time.Time         { return l.until() }

// poll is how locks without a queue wait.
func poll(m *LockManager) func(context.Context, string, time.Duration) (lock.FencedLock, error) {
	var callers atomic.Int64
	return func(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
		pause := time.Second / time.Duration(callers.Add(1)) // later callers poll more often
		for tick := time.NewTicker(pause); ; {
			l, err := m.TryAcquire(ctx, resource, ttl)
			if !errors.Is(err, lock.ErrLockNotAcquired) {
				tick.Stop()
				return l, err
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}
}

func TestLockerContractNotices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		promise string
		change  func(m *brokenLocker)
	}{
		"TryAcquire excludes nobody": {"TryAcquire keeps the promises of Acquire", func(m *brokenLocker) {
			m.try = func(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
				m.Lose(resource)
				return m.LockManager.TryAcquire(ctx, resource, ttl)
			}
		}},
		"TryAcquire has locks of its own": {"TryAcquire keeps the promises of Acquire", func(m *brokenLocker) {
			other := NewLockManager()
			m.try = other.TryAcquire
		}},
		"TryAcquire waits": {"TryAcquire keeps the promises of Acquire", func(m *brokenLocker) {
			m.try = func(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
				ctx, cancel := context.WithTimeout(ctx, time.Minute)
				defer cancel()
				return m.LockManager.AcquireWait(ctx, resource, ttl)
			}
		}},
		"one token for all": {"tokens grow with every lock on a resource", func(m *brokenLocker) {
			m.change = func(l *brokenLock) { l.token = 1 }
		}},
		"tokens fall": {"tokens grow with every lock on a resource", func(m *brokenLocker) {
			m.change = func(l *brokenLock) { l.token = 1000 - l.token }
		}},
		"Until is the past": {"Until is ahead and moves with Refresh", func(m *brokenLocker) {
			m.change = func(l *brokenLock) { l.until = func() time.Time { return time.Time{} } }
		}},
		"Until promises more than the TTL": {"Until is ahead and moves with Refresh", func(m *brokenLocker) {
			m.change = func(l *brokenLock) { l.until = func() time.Time { return time.Now().Add(2 * l.ttl) } }
		}},
		"a release is called a loss": {"a release ends the context and is no loss", func(m *brokenLocker) {
			m.change = func(l *brokenLock) { l.lost = l.ctx.Done() }
		}},
		"the context outlives the release": {"a release ends the context and is no loss", func(m *brokenLocker) {
			m.change = func(l *brokenLock) { l.ctx = context.Background() }
		}},
		"a release without a cause": {"a release ends the context and is no loss", func(m *brokenLocker) {
			m.change = func(l *brokenLock) {
				var cancel context.CancelFunc
				l.ctx, cancel = context.WithCancel(context.Background())
				context.AfterFunc(l.Lock.ctx, cancel)
			}
		}},
		"Lost never closes": {"a loss is reported to the holder", func(m *brokenLocker) {
			m.change = func(l *brokenLock) { l.lost = nil }
		}},
		"the context outlives the loss": {"a loss is reported to the holder", func(m *brokenLocker) {
			m.change = func(l *brokenLock) { l.ctx = context.Background() }
		}},
		"closing loses nothing": {"a loss is reported to the holder", func(m *brokenLocker) {
			m.closing = func(context.Context) error { return nil }
		}},
		"waiting for what is free": {"a free resource needs no waiting", func(m *brokenLocker) {
			m.wait = func(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
				select {
				case <-ctx.Done():
				case <-time.After(time.Minute):
				}
				return m.LockManager.AcquireWait(ctx, resource, ttl)
			}
		}},
		"the lock dies with the context of its waiter": {"a free resource needs no waiting", func(m *brokenLocker) {
			m.wait = func(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
				l, err := m.LockManager.AcquireWait(ctx, resource, ttl)
				context.AfterFunc(ctx, func() { m.Lose(resource) })
				return l, err
			}
		}},
		"AcquireWait does not wait": {"a waiter gets the lock after its release", func(m *brokenLocker) {
			m.wait = m.LockManager.TryAcquire
		}},
		"AcquireWait takes what is held": {"a waiter gets the lock after its release", func(m *brokenLocker) {
			m.wait = func(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
				m.Lose(resource)
				return m.LockManager.TryAcquire(ctx, resource, ttl)
			}
		}},
		"the wake-up is lost": {"a waiter gets the lock after its release", func(m *brokenLocker) {
			m.wait = func(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		}},
		"no queue": {"waiters get the lock in the order in which they came", func(m *brokenLocker) {
			m.wait = poll(m.LockManager)
		}},
		"the last comes first": {"waiters get the lock in the order in which they came", func(m *brokenLocker) {
			m.wait = func(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
				time.AfterFunc(arrival/2, func() {
					m.mu.Lock()
					defer m.mu.Unlock()
					slices.Reverse(m.queues[resource])
				})
				return m.LockManager.AcquireWait(ctx, resource, ttl)
			}
		}},
		"waiting outlasts its context": {"waiting ends with the context and leaves nothing behind", func(m *brokenLocker) {
			m.wait = func(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
				return m.LockManager.AcquireWait(context.WithoutCancel(ctx), resource, ttl)
			}
		}},
		"a caller that gave up gets the lock": {"waiting ends with the context and leaves nothing behind", func(m *brokenLocker) {
			m.wait = func(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
				result := make(chan lock.FencedLock, 1)
				go func() {
					l, _ := m.LockManager.AcquireWait(context.WithoutCancel(ctx), resource, ttl)
					result <- l
				}()
				select {
				case l := <-result:
					return l, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
		}},
		"giving up is a refusal": {"waiting ends with the context and leaves nothing behind", func(m *brokenLocker) {
			m.wait = func(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
				l, err := m.LockManager.AcquireWait(ctx, resource, ttl)
				if err != nil {
					return nil, lock.ErrLockNotAcquired
				}
				return l, nil
			}
		}},
		"an end of waiting with a nil that is none": {"waiting ends with the context and leaves nothing behind", func(m *brokenLocker) {
			m.wait = func(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
				l, err := m.LockManager.AcquireWait(ctx, resource, ttl)
				fake, _ := l.(*Lock)
				return fake, err
			}
		}},
		"Close leaves the waiters alone": {"closing wakes those who wait", func(m *brokenLocker) {
			m.closing = func(context.Context) error {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.closed = true
				return nil
			}
		}},
		"Close lets waiters inherit": {"closing wakes those who wait", func(m *brokenLocker) {
			m.closing = func(ctx context.Context) error {
				for _, resource := range m.Held() {
					m.Lose(resource)
				}
				return m.LockManager.Close(ctx)
			}
		}},
		"a closed Locker goes on": {"closing wakes those who wait", func(m *brokenLocker) {
			m.closing = func(context.Context) error {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.wakeAll(lock.ErrManagerClosed)
				return nil
			}
		}},
		"a closed Locker ignores the context": {"closing wakes those who wait", func(m *brokenLocker) {
			m.try = func(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
				l, err := m.LockManager.TryAcquire(context.WithoutCancel(ctx), resource, ttl)
				return m.broken(l, err)
			}
		}},
		"Close takes a nil context": {"closing wakes those who wait", func(m *brokenLocker) {
			m.closing = func(ctx context.Context) error {
				if ctx == nil {
					return nil
				}
				return m.LockManager.Close(ctx)
			}
		}},
		"WithLock without a lock": {"WithLock runs its function under the lock", func(m *brokenLocker) {
			m.withLock = func(ctx context.Context, resource string, ttl time.Duration, fn func(context.Context, lock.FencedLock) error) error {
				l, err := m.LockManager.TryAcquire(ctx, resource, ttl)
				if err == nil {
					_ = l.Release(ctx)
				}
				return fn(ctx, l)
			}
		}},
		"WithLock does not wait": {"WithLock runs its function under the lock", func(m *brokenLocker) {
			m.withLock = func(ctx context.Context, resource string, ttl time.Duration, fn func(context.Context, lock.FencedLock) error) error {
				l, err := m.LockManager.TryAcquire(ctx, resource, ttl)
				if err != nil {
					return err
				}
				defer letGo(l)
				return fn(ctx, l)
			}
		}},
		"WithLock drops the error": {"WithLock runs its function under the lock", func(m *brokenLocker) {
			m.withLock = func(ctx context.Context, resource string, ttl time.Duration, fn func(context.Context, lock.FencedLock) error) error {
				return m.LockManager.WithLock(ctx, resource, ttl, func(ctx context.Context, l lock.FencedLock) error {
					_ = fn(ctx, l)
					return nil
				})
			}
		}},
		"WithLock does not release": {"WithLock runs its function under the lock", func(m *brokenLocker) {
			m.withLock = func(ctx context.Context, resource string, ttl time.Duration, fn func(context.Context, lock.FencedLock) error) error {
				l, err := m.LockManager.AcquireWait(ctx, resource, ttl)
				if err != nil {
					return err
				}
				return fn(ctx, l)
			}
		}},
		"a panic keeps the lock": {"WithLock releases after a panic", func(m *brokenLocker) {
			m.withLock = func(ctx context.Context, resource string, ttl time.Duration, fn func(context.Context, lock.FencedLock) error) error {
				l, err := m.LockManager.AcquireWait(ctx, resource, ttl)
				if err != nil {
					return err
				}
				err = fn(ctx, l)
				letGo(l)
				return err
			}
		}},
		"a panic is swallowed": {"WithLock releases after a panic", func(m *brokenLocker) {
			m.withLock = func(ctx context.Context, resource string, ttl time.Duration, fn func(context.Context, lock.FencedLock) error) error {
				defer func() { _ = recover() }()
				return m.LockManager.WithLock(ctx, resource, ttl, fn)
			}
		}},
		"the context of WithLock is the caller's": {"the context of WithLock ends with the lock", func(m *brokenLocker) {
			m.withLock = func(ctx context.Context, resource string, ttl time.Duration, fn func(context.Context, lock.FencedLock) error) error {
				return m.LockManager.WithLock(ctx, resource, ttl, func(_ context.Context, l lock.FencedLock) error { return fn(ctx, l) })
			}
		}},
		"the context of WithLock is the lock's": {"the context of WithLock ends with the lock", func(m *brokenLocker) {
			m.withLock = func(ctx context.Context, resource string, ttl time.Duration, fn func(context.Context, lock.FencedLock) error) error {
				return m.LockManager.WithLock(ctx, resource, ttl, func(_ context.Context, l lock.FencedLock) error { return fn(l.Context(), l) })
			}
		}},
		"WithLock is silent about a loss": {"the context of WithLock ends with the lock", func(m *brokenLocker) {
			m.withLock = func(ctx context.Context, resource string, ttl time.Duration, fn func(context.Context, lock.FencedLock) error) (err error) {
				_ = m.LockManager.WithLock(ctx, resource, ttl, func(ctx context.Context, l lock.FencedLock) error {
					err = fn(ctx, l)
					return err
				})
				return err
			}
		}},
		"WithLock takes a release by its function for a loss": {"the context of WithLock ends with the lock", func(m *brokenLocker) {
			m.withLock = func(ctx context.Context, resource string, ttl time.Duration, fn func(context.Context, lock.FencedLock) error) error {
				var held lock.FencedLock
				err := m.LockManager.WithLock(ctx, resource, ttl, func(ctx context.Context, l lock.FencedLock) error {
					held = l
					return fn(ctx, l)
				})
				return errors.Join(err, held.Refresh(context.Background()))
			}
		}},
		"the input of AcquireWait is not checked": {
			"bad input to TryAcquire, AcquireWait and WithLock is refused", func(m *brokenLocker) {
				m.wait = func(ctx context.Context, resource string, ttl time.Duration) (lock.FencedLock, error) {
					return m.LockManager.AcquireWait(ctx, resource, max(ttl, minTTL))
				}
			}},
		"a function that is nil": {"bad input to TryAcquire, AcquireWait and WithLock is refused", func(m *brokenLocker) {
			m.withLock = func(ctx context.Context, resource string, ttl time.Duration, fn func(context.Context, lock.FencedLock) error) error {
				if fn == nil {
					return nil
				}
				return m.LockManager.WithLock(ctx, resource, ttl, fn)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.True(t, notices(t, lockerContract(), c.promise, func() lock.Locker {
				m := &brokenLocker{LockManager: NewLockManager()}
				c.change(m)
				return m
			}))
		})
	}
}

// Broken fakes prove something only if the same test finds nothing in the sound one.
func TestLockerContractAcceptsTheFakeInABubble(t *testing.T) {
	t.Parallel()
	for _, c := range lockerContract() {
		assert.False(t, notices(t, lockerContract(), c.promise, func() lock.Locker { return NewLockManager() }), c.promise)
	}
}
