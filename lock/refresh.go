package lock

import (
	"context"
	"time"

	"github.com/go-redsync/redsync/v4"
)

// Refresh makes the lock last for its full TTL from now, in one round trip. It is not needed while renewal is on.
//
// It returns an error matching ErrLockNotHeld if the lock was released or lost, also matching ErrLockExpired,
// ErrLockStolen or ErrManagerClosed after a loss; the error of ctx if that ended first; or one matching ErrRedis, after
// which the lock is as it was before. Safe for concurrent use.
func (l *RedisLock) Refresh(ctx context.Context) error {
	if l.none() {
		return ErrLockNotHeld
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	m := l.manager
	if !m.tasks.begin() {
		return l.closedError("refresh")
	}
	defer m.tasks.end()
	err := l.refresh(ctx)
	m.metrics.refreshed(err)
	return err
}

func (l *RedisLock) refresh(ctx context.Context) error {
	generation, err := l.current("refresh")
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return contextError(ctx, "refresh", l.resource)
	}
	m := l.manager
	start := time.Now()
	r := m.newRound(ctx, start, extending, l.keys, l.value, l.ttl, askExtend)
	defer r.done()
	r.endsWith(m.ctx)
	failure := r.decide(func(mutex *redsync.Mutex) error { return orNoMajority(mutex.ExtendContext(r.context())) })
	if failure == nil {
		if l.extend(start, generation) {
			return nil
		}
		_, err := l.current("refresh") // lost or released in the meantime
		return err
	}
	t := r.tally()
	if cause := m.lossBy(t); cause != nil {
		l.lose(cause)
		_, err := l.current("refresh")
		return err
	}
	if ctx.Err() != nil {
		return contextError(ctx, "refresh", l.resource)
	}
	if err = t.err(); err == nil {
		err = errTooLate
	}
	return &RedisError{Op: "refresh", Resource: l.resource, Err: err}
}

// current returns the generation of a held lock, or an error that says why it is not held.
func (l *RedisLock) current(op string) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.state == stateLost:
		return 0, lostError(op, l.resource, l.cause)
	case l.state != stateHeld:
		return 0, ErrLockNotHeld
	case remaining(l.until, time.Now()) <= 0:
		return 0, lostError(op, l.resource, ErrLockExpired) // the timer is late
	}
	return l.generation, nil
}

// lossBy returns why a lock is lost after such answers to an extension, or nil if it is not: a majority may still hold.
func (m *RedisLockManager) lossBy(t tally) error {
	if t.missing+t.refused <= len(m.nodes)-m.quorum() {
		return nil
	}
	if t.refused > 0 {
		return ErrLockStolen
	}
	return ErrLockExpired
}

func (n *node) extendCall(k keys, value string, ttl time.Duration) call {
	return newCall(n.scripts.extend, []string{k.lock()}, value, ttl.Milliseconds())
}

// askExtend runs the extend script on a node.
func askExtend(r *round, n *node) vote {
	reply, _, err := n.number(r, n.extendCall(r.keys, r.value, r.ttl))
	return extendVote(reply, err)
}

// extendVote translates what the extend script says of a lock.
func extendVote(reply int64, err error) vote {
	switch {
	case err != nil:
		return vote{outcome: failed, err: err}
	case reply > 0:
		return vote{outcome: granted}
	case reply == 0:
		return vote{outcome: missing}
	default:
		return vote{outcome: refused}
	}
}
