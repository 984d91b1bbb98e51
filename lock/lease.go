package lock

import (
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/lock/internal/store"
)

// lockState is where a lock is in its life. One that has left stateHeld never comes back to it.
type lockState uint8

const (
	stateHeld lockState = iota
	stateReleasing
	stateUnreleased // Redis failed; Release may be called again
	stateReleased
	stateLost
)

// validity is how long after sending the last confirmed call a holder may rely on a lock. The key lives at least ttl
// from then; off go 1% for clocks that run at different speeds and 2ms for Redis' own resolution (as redsync has it),
// and a guard, so that the holder is notified before the key expires even if it is notified slowly.
func validity(ttl time.Duration) time.Duration {
	return ttl - ttl/100 - 2*time.Millisecond - guard(ttl)
}

// guard is how much earlier than necessary a holder is notified of a loss.
func guard(ttl time.Duration) time.Duration {
	return min(max(ttl/10, time.Millisecond), 500*time.Millisecond)
}

// remaining returns how long a lock is valid by the clock that is ahead: the monotonic one, which nobody can set, stands
// still while the machine is suspended, and the wall clock does not.
func remaining(until, now time.Time) time.Duration {
	return min(until.Sub(now), until.Round(0).Sub(now.Round(0)))
}

// endFrom returns beyond which time a lock does not last that was acquired or refreshed then, whatever else extends it:
// its TTL if it is not renewed, and what WithMaxHold says. It is zero if there is no such time.
func (l *RedisLock) endFrom(t time.Time) (end time.Time) {
	if l.call.maxHold > 0 {
		end = l.acquired.Add(l.call.maxHold)
	}
	if !l.call.renewal {
		end = limit(t.Add(l.claim.TTL), end)
	}
	return end
}

// limit returns the earlier of a time and an end, which may be zero.
func limit(t, end time.Time) time.Time {
	if !end.IsZero() && end.Before(t) {
		return end
	}
	return t
}

// extension is an attempt to make a lock last longer.
type extension struct {
	lock  *RedisLock
	claim store.Claim // with the TTL to set
	sent  time.Time
	end   time.Time // of the lock, if the attempt succeeds
}

// extension returns what to send to extend a held lock, or an error that says why it is not held. A lock that has to end
// is not made to last much longer than that; only a refresh moves the end.
func (l *RedisLock) extension(op string, now time.Time) (extension, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.state != stateHeld:
		return extension{}, l.notHeld(op)
	case remaining(l.until, now) <= 0:
		return extension{}, lostError(op, l.resource, ErrLockExpired) // the timer is late
	}
	x := extension{lock: l, claim: l.claim, sent: now, end: l.end}
	if op == opRefresh {
		x.end = l.endFrom(now)
	}
	if !x.end.IsZero() {
		left := x.end.Sub(now)
		slack := left/10 + guard(left)
		if left < x.claim.TTL-slack { // compared so that the largest durations do not overflow
			x.claim.TTL = max(left+slack, minTTL)
		}
	}
	return x, nil
}

// notHeld returns why a lock is not held that has ended. The caller holds mu.
func (l *RedisLock) notHeld(op string) error {
	if l.state == stateLost {
		return lostError(op, l.resource, l.cause)
	}
	return ErrLockNotHeld
}

// extend records a confirmed extension, and reports whether the lock is still held. A lock whose time was up when the
// answer came is lost even if Redis has extended the key: its holder has been notified.
func (l *RedisLock) extend(x extension) bool {
	l.mu.Lock()
	if l.state != stateHeld { // and it never is again
		l.mu.Unlock()
		return false
	}
	if remaining(l.until, time.Now()) <= 0 {
		l.mu.Unlock()
		l.lose(ErrLockExpired)
		return false
	}
	if x.end.After(l.end) {
		l.end = x.end
	}
	if until := limit(x.sent.Add(validity(x.claim.TTL)), x.end); until.After(l.until) {
		l.until = until
		l.expiry.Reset(time.Until(until))
	}
	l.mu.Unlock()
	return true
}

// hasEnded reports whether the lock was released or lost.
func (l *RedisLock) hasEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state != stateHeld
}

// expire is called when the time may be up.
func (l *RedisLock) expire() {
	l.mu.Lock()
	if l.state != stateHeld {
		l.mu.Unlock()
		return
	}
	if left := remaining(l.until, time.Now()); left > 0 { // renewed while the timer was firing
		l.expiry.Reset(left)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.lose(ErrLockExpired)
}

// lose ends a held lock and notifies its holder. It reports false if the lock had ended before.
func (l *RedisLock) lose(cause error) bool {
	l.mu.Lock()
	if l.state != stateHeld {
		l.mu.Unlock()
		return false
	}
	until, k := l.until, l.keeper
	l.cause = cause
	l.call.class.lost(cause) // before anybody learns of it
	l.call.class.held(time.Since(l.acquired))
	l.leave(stateLost, cause)
	if l.lost != nil {
		close(l.lost)
	}
	l.mu.Unlock()

	k.forget(l)
	if cause == ErrManagerClosed { //nolint:errorlint // an identity, not a class: only Close passes it
		return true // Close releases the keys itself
	}
	k.log.Warn("lock: lost", zap.String("resource", l.resource), zap.NamedError("cause", cause),
		zap.Int64("token", l.claim.Token), zap.Time("until", until))
	// A renewal may have been executed without our hearing of it. The key is of no use to anybody now.
	k.store.Reap(l.claim, store.Lost)
	return true
}

// leave takes a lock out of its holder's hands. The caller holds mu.
func (l *RedisLock) leave(state lockState, cause error) {
	l.state = state
	if l.expiry != nil {
		l.expiry.Stop()
		l.expiry = nil
	}
	if l.cancel != nil {
		l.cancel(cause)
	}
}
