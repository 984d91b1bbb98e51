package lock

import (
	"context"
	"time"

	"github.com/go-redsync/redsync/v4"
)

// Acquire tries once to lock the resource for ttl and returns at once: one round trip, on several masters to all of
// them in parallel until the majority has decided. The Lock that comes back is a [*RedisLock]; it is renewed until it is
// released, lost, or the manager is closed, and the end of ctx does not change that.
//
// The resource may be any string but the empty one. ttl is at least 10ms; fractions of a millisecond are dropped.
//
// The error matches exactly one of ErrLockNotAcquired (somebody else is there), the error of ctx, ErrRedis,
// ErrInvalidArgument and ErrManagerClosed. No key is left behind with an error: if the fate of a command is unknown, it
// is undone in the background. (A command that the network holds up for more than two seconds after it was looked for in
// vain is not found any more: its key then lasts for ttl.) The end of ctx ends the call at once; if a server hangs that has answered quickly until
// then, a cancellation may take 200ms to be noticed. Acquire is safe for concurrent use.
func (m *RedisLockManager) Acquire(ctx context.Context, resource string, ttl time.Duration) (Lock, error) {
	l, err := m.acquire(ctx, resource, ttl)
	if err != nil {
		return nil, err // not l: a nil *RedisLock would make a Lock that is not nil
	}
	return l, nil
}

// TryAcquire is [RedisLockManager.Acquire] with the richer result: a lock with its fencing token and notice of loss.
func (m *RedisLockManager) TryAcquire(ctx context.Context, resource string, ttl time.Duration) (FencedLock, error) {
	l, err := m.acquire(ctx, resource, ttl)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (m *RedisLockManager) acquire(ctx context.Context, resource string, ttl time.Duration) (*RedisLock, error) {
	if m.none() {
		return nil, errNoManager()
	}
	if err := check(ctx, resource, ttl); err != nil {
		return nil, err
	}
	ttl = ttl.Truncate(time.Millisecond)
	begin := time.Now()
	l, err := m.tryAcquire(ctx, begin, resource, ttl)
	if err != nil {
		m.metrics.failed(ctx, err)
		return nil, err
	}
	m.metrics.acquired(l.acquired.Sub(begin))
	return l, nil
}

// check refuses arguments that nothing can be done with.
func check(ctx context.Context, resource string, ttl time.Duration) error {
	switch {
	case ctx == nil:
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	case resource == "":
		return &ArgumentError{Argument: "resource", Reason: "is empty"}
	case ttl < minTTL:
		return &ArgumentError{Argument: "ttl", Reason: "is " + ttl.String() + ", less than " + minTTL.String()}
	}
	return nil
}

func (m *RedisLockManager) tryAcquire(
	ctx context.Context, begin time.Time, resource string, ttl time.Duration,
) (*RedisLock, error) {
	if ctx.Err() != nil {
		return nil, contextError(ctx, "acquire", resource)
	}
	if !m.tasks.begin() {
		return nil, ErrManagerClosed
	}
	defer m.tasks.end()
	r := m.newRound(ctx, begin, acquiring, newKeys(m.set.prefix, resource), m.newValue(), ttl, askAcquire)
	defer r.done()
	r.endsWith(m.closing)
	a := r.acquire()
	if a.err == nil {
		l, err := m.newLock(a, resource, ttl)
		if err != nil {
			r.discard()
		}
		return l, err
	}
	t := r.tally()
	switch {
	// Somebody holds it if the failed nodes could not have made a majority of ours.
	case t.refused > 0 && t.granted+t.failed < m.quorum():
		return nil, &NotAcquiredError{Resource: resource, RetryAfter: t.wait}
	case ctx.Err() != nil:
		return nil, contextError(ctx, "acquire", resource)
	case m.closing.Err() != nil:
		return nil, ErrManagerClosed
	// A majority has answered, so Redis works. It was split between several who acquire, as happens when all are up.
	case t.split(m.quorum()):
		return nil, &NotAcquiredError{Resource: resource, RetryAfter: t.wait}
	case len(t.errs) > 0:
		return nil, &RedisError{Op: "acquire", Resource: resource, Err: t.err()}
	default:
		return nil, &RedisError{Op: "acquire", Resource: resource, Err: a.err}
	}
}

// askAcquire runs the acquire script on a node.
func askAcquire(r *round, n *node) vote {
	c := newCall(n.scripts.acquire, []string{r.keys.lock(), r.keys.fence()}, r.value, r.ttl.Milliseconds())
	if former := n.manager.leftovers.on(n, r.keys); former != nil {
		c.args = append(append(c.args, "0"), former...)
	}
	reply, repeated, err := n.number(r, c)
	switch {
	case err != nil:
		return vote{outcome: failed, err: err}
	case reply > 0:
		return vote{outcome: granted, token: reply, repeated: repeated}
	default:
		return vote{outcome: refused, wait: time.Duration(-1-reply) * time.Millisecond, repeated: repeated}
	}
}

// attempt is how a try to acquire a lock went.
type attempt struct {
	round      *round
	start, end time.Time // before anything was sent, from where validity counts, and after the answers
	token      int64
	err        error
}

// acquire asks the nodes and makes the majority agree on the token. After an error nothing stays behind: what a node
// has granted, or may have, is taken back in the background.
func (r *round) acquire() attempt {
	a := attempt{round: r, start: r.start, err: errNoAnswer}
	defer func() {
		if a.err != nil { // also if a hook of the client panics
			r.discard()
		}
	}()
	a.err = r.decide(func(mutex *redsync.Mutex) error { return mutex.TryLockContext(r.context()) })
	if a.err == nil {
		a.token, a.err = r.agree()
	}
	a.end = time.Now()
	if a.err == nil && remaining(a.start.Add(validity(r.ttl)), a.end) <= 0 {
		a.err = errTooLate
	}
	return a
}
