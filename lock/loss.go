package lock

import (
	"time"

	"go.uber.org/zap"
)

// validity is how long after sending the last confirmed call a holder may rely on a lock. The key lives at least ttl
// from then; off go 1% for clocks that run at different speeds and 2ms for Redis' own resolution (as redsync has it),
// and a guard, so that the holder is told before the key expires even if it is told slowly.
func validity(ttl time.Duration) time.Duration {
	return ttl - ttl/100 - 2*time.Millisecond - guard(ttl)
}

// guard is how much earlier than necessary a loss is told.
func guard(ttl time.Duration) time.Duration {
	return min(max(ttl/10, time.Millisecond), 500*time.Millisecond)
}

// remaining returns how long a lock is valid by the clock that is ahead: the monotonic one, which nobody can set, stands
// still while the machine is suspended, and the wall clock does not.
func remaining(until, now time.Time) time.Duration {
	return min(until.Sub(now), until.Round(0).Sub(now.Round(0)))
}

// grantOf is what a holder has got.
type grantOf struct {
	keys  keys
	value string
	token int64
	until time.Time // until when it is valid
	// acquired is now, or just before.
	acquired time.Time
	due      time.Time // when to renew it
	round    *round    // nodes that may be late; nil on a single node
	repeated bool      // see vote
}

// newLock makes the lock of an attempt that succeeded.
func (m *RedisLockManager) newLock(a attempt, resource string, ttl time.Duration) (*RedisLock, error) {
	g := grantOf{
		keys: a.round.keys, value: a.round.value, token: a.token, until: a.start.Add(validity(a.round.ttl)), acquired: a.end,
		due: m.renewer.firstDue(ttl, a.start),
	}
	if len(m.nodes) > 1 {
		g.round = a.round
	}
	g.repeated = a.round.tally().repeated
	if a.round.ttl != ttl { // acquired for a caller with another TTL, who has left
		g.due = a.end
	}
	return m.adopt(g, resource, ttl)
}

// adopt makes a lock and starts what keeps it. It returns ErrManagerClosed if the manager is closing.
func (m *RedisLockManager) adopt(g grantOf, resource string, ttl time.Duration) (*RedisLock, error) {
	// What holds the lock may last longer than ttl, as a grant does, but its first renewal makes it last for ttl only.
	if until := g.acquired.Add(validity(ttl)); until.Before(g.until) {
		g.until = until
	}
	l := &RedisLock{
		manager: m, resource: resource, keys: g.keys, value: g.value, ttl: ttl, token: g.token, round: g.round,
		acquired: g.acquired, index: -1, until: g.until, repeated: g.repeated,
	}
	if !m.held.add(l) {
		return nil, ErrManagerClosed
	}
	// From here on others see the lock.
	l.mu.Lock()
	if l.state == stateHeld {
		l.expiry = m.expiries.start(l, l.until.Sub(g.acquired))
	}
	l.mu.Unlock()
	m.renewer.schedule(l, g.due)
	return l, nil
}

// expire is called when the time may be up.
func (l *RedisLock) expire() {
	l.mu.Lock()
	if l.state != stateHeld {
		l.mu.Unlock()
		return
	}
	if left := remaining(l.until, time.Now()); left > 0 { // renewed while the timer was firing
		l.expiry.timer.Reset(left)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.lose(ErrLockExpired)
}

// extend records a confirmed renewal that was sent at start, and reports whether the lock is still held. A lock whose
// time was up when the answer came is lost even if Redis has extended the key: its holder has been told.
func (l *RedisLock) extend(start time.Time, generation uint64) bool {
	l.mu.Lock()
	if l.state != stateHeld || l.generation != generation {
		l.mu.Unlock()
		return false
	}
	if remaining(l.until, time.Now()) <= 0 {
		l.mu.Unlock()
		l.lose(ErrLockExpired)
		return false
	}
	if until := start.Add(validity(l.ttl)); until.After(l.until) {
		l.until = until
		l.expiry.timer.Reset(time.Until(until))
	}
	l.mu.Unlock()
	return true
}

// lose ends a held lock and tells its holder. It reports false if the lock had ended before.
func (l *RedisLock) lose(cause error) bool {
	l.mu.Lock()
	if l.state != stateHeld {
		l.mu.Unlock()
		return false
	}
	l.state, l.cause = stateLost, cause
	l.generation++
	until := l.until
	l.end(cause)
	if l.lost != nil {
		close(l.lost)
	}
	l.mu.Unlock()

	m := l.manager
	m.forget(l)
	m.metrics.lost(cause, time.Since(l.acquired))
	if l.round != nil {
		l.round.finish()
	}
	if cause == ErrManagerClosed { //nolint:errorlint // an identity, not a class: only Close passes it
		return true // Close releases the keys itself
	}
	m.set.logger.Warn("lock: lost", zap.String("resource", l.resource), zap.NamedError("cause", cause),
		zap.Int64("token", l.token), zap.Time("until", until))
	// A renewal may have been executed without our hearing of it. The key is of no use to anybody now.
	l.cleanUp()
	return true
}

// end stops the timer and cancels the context. The caller holds mu.
func (l *RedisLock) end(cause error) {
	if l.expiry != nil {
		l.manager.expiries.stop(l.expiry)
		l.expiry = nil
	}
	if l.cancel != nil {
		l.cancel(cause)
	}
}
