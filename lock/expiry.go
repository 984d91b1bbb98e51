package lock

import (
	"sync"
	"sync/atomic"
	"time"
)

// expiry tells a lock that its time is up. It waits for nothing but the clock, so that a call that hangs cannot delay the
// news. Most locks are released long before, so the timers go from lock to lock.
type expiry struct {
	timer *time.Timer
	lock  atomic.Pointer[RedisLock]
}

// expiries are those without a lock.
type expiries struct{ free sync.Pool }

// start makes one go off after d.
func (x *expiries) start(l *RedisLock, d time.Duration) *expiry {
	e, ok := x.free.Get().(*expiry)
	if ok {
		e.lock.Store(l)
		e.timer.Reset(d)
		return e
	}
	e = &expiry{}
	e.lock.Store(l)
	e.timer = time.AfterFunc(d, func() {
		if l := e.lock.Load(); l != nil {
			l.expire()
		}
	})
	return e
}

// stop ends one. A timer that has gone off is not used again. A stale
// fire may reach its next lock, which ignores it because its time is not up.
func (x *expiries) stop(e *expiry) {
	if e.timer.Stop() {
		e.lock.Store(nil)
		x.free.Put(e)
	}
}
