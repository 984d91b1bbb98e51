package lock

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/compozy/cache/lock/internal/store"
)

// RedisLock is a lock on Redis. It is safe for concurrent use. Its zero value is not usable: acquire one.
type RedisLock struct {
	keeper   *keeper
	resource string
	claim    store.Claim // its value distinguishes this acquisition from every other
	call     callSettings
	acquired time.Time
	end      time.Time // the time is up whatever renews it, see WithMaxHold; zero if there is no such time
	repeated bool      // the command that acquired it was sent more than once

	due   time.Time // when to renew; guarded by renewer.mu
	soon  time.Time // when to renew at the latest, if that is known before it is scheduled; guarded by renewer.mu
	index int       // place in the renewer's heap, -1 if in none; guarded by renewer.mu

	mu    sync.Mutex // guards what follows
	state lockState
	until time.Time
	sure  uint64 // see store.Claim
	// generation counts what happened to the lock. An answer that belongs to an earlier generation is ignored.
	generation uint64
	cause      error         // why the lock was lost
	lost       chan struct{} // made on demand, closed by loss
	ctx        context.Context
	cancel     context.CancelCauseFunc // both made on demand
	expiry     *time.Timer             // calls expire; nil once the lock has ended
}

// Resource returns the name given to Acquire.
func (l *RedisLock) Resource() string { return l.orLost().resource }

// String names the lock for logs and for fmt, which would otherwise read what is changing. Safe for concurrent use.
func (l *RedisLock) String() string {
	l = l.orLost()
	return fmt.Sprintf("lock %q with token %d", l.resource, l.claim.Token)
}

// Token returns the fencing token of this acquisition: larger than that of every earlier acquisition of the resource,
// positive, and below 2^53. Pass it to whatever the lock protects, and let that refuse tokens smaller than the largest
// it has seen.
func (l *RedisLock) Token() int64 { return l.orLost().claim.Token }

// Until returns the time at which the lock counts as lost unless it is renewed before. The key in Redis lives a little
// longer. Renewals move it. After release or loss it stays as it was.
func (l *RedisLock) Until() time.Time {
	l = l.orLost()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}

// IsHeld reports whether the holder may rely on the lock right now. It compares the clock itself, so that it is right
// even if the process has just been stopped and continued, or the machine suspended. It sends nothing to Redis.
func (l *RedisLock) IsHeld() bool {
	l = l.orLost()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == stateHeld && remaining(l.until, time.Now()) > 0
}

// Lost returns a channel that is closed when the lock is lost, and only then: Release does not close it. The loss is
// notified before the key can expire, whatever Redis or the network do.
func (l *RedisLock) Lost() <-chan struct{} {
	l = l.orLost()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil {
		l.lost = make(chan struct{})
		if l.state == stateLost {
			close(l.lost)
		}
	}
	return l.lost
}

// Context returns a context that ends with the lock. Its cause, see context.Cause, is ErrLockExpired, ErrLockStolen or
// ErrManagerClosed after a loss, and ErrLockNotHeld after Release. It does not descend from the context of Acquire.
func (l *RedisLock) Context() context.Context {
	l = l.orLost()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil {
		l.ctx, l.cancel = context.WithCancelCause(context.Background())
		switch l.state {
		case stateHeld:
		case stateLost:
			l.cancel(l.cause)
		default:
			l.cancel(ErrLockNotHeld)
		}
	}
	return l.ctx
}

// none reports whether no manager made l.
func (l *RedisLock) none() bool { return l == nil || l.keeper == nil }

// orLost returns l, or for nil a lock that is not held.
func (l *RedisLock) orLost() *RedisLock {
	if l == nil {
		return &RedisLock{state: stateLost, cause: ErrLockNotHeld}
	}
	return l
}
