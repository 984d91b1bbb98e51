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
// The error matches exactly one of ErrLockNotAcquired (somebody else holds the lock), the error of ctx, ErrRedis,
// ErrInvalidArgument and ErrManagerClosed. No key is left behind with an error: if the fate of a command is unknown, it
// is undone in the background. Acquire is safe for concurrent use.
func (m *RedisLockManager) Acquire(ctx context.Context, resource string, ttl time.Duration) (Lock, error) {
	l, err := m.acquire(ctx, resource, ttl)
	if err != nil {
		return nil, err // not l: a nil *RedisLock would make a Lock that is not nil
	}
	return l, nil
}

func (m *RedisLockManager) acquire(ctx context.Context, resource string, ttl time.Duration) (*RedisLock, error) {
	if err := check(ctx, resource, ttl); err != nil {
		return nil, err
	}
	ttl = ttl.Truncate(time.Millisecond)
	begin := time.Now()
	l, err := m.tryAcquire(ctx, resource, ttl)
	m.metrics.acquired(ctx, err, time.Since(begin))
	return l, err
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

func (m *RedisLockManager) tryAcquire(ctx context.Context, resource string, ttl time.Duration) (*RedisLock, error) {
	if ctx.Err() != nil {
		return nil, contextError(ctx, "acquire", resource)
	}
	if !m.tasks.begin() {
		return nil, ErrManagerClosed
	}
	defer m.tasks.end()
	k := newKeys(m.set.prefix, resource)
	r := m.newRound(ctx, acquiring, k, m.newValue(), ttl, askAcquire)
	if m.heeds && ctx.Done() == nil {
		a := newAttempt(r)
		a.token, a.err = a.run() // nothing to watch: save the switch to another goroutine
		return m.conclude(a, resource, ttl)
	}
	a := m.attempt(r)
	timer := time.NewTimer(r.left())
	defer timer.Stop()
	select {
	case <-a.done:
	case <-ctx.Done():
		if a.abandon() {
			return nil, contextError(ctx, "acquire", resource)
		}
	case <-timer.C:
		// Clients that do not heed contexts go on, in the background.
		if a.abandon() {
			return nil, &RedisError{Op: "acquire", Resource: resource, Err: errNoAnswer}
		}
	case <-m.closing:
		if a.abandon() {
			return nil, ErrManagerClosed
		}
	}
	return m.conclude(a, resource, ttl)
}

// conclude turns the result of an attempt into a lock or an error.
func (m *RedisLockManager) conclude(a *attempt, resource string, ttl time.Duration) (*RedisLock, error) {
	if a.err == nil {
		l, err := m.newLock(a, resource, ttl)
		if err != nil {
			a.round.discard()
		}
		return l, err
	}
	t := count(a.round.snapshot())
	switch {
	// Somebody holds it if the failed nodes could not have made a majority of ours.
	case t.refused > 0 && t.granted+t.failed < m.quorum():
		return nil, &NotAcquiredError{Resource: resource, RetryAfter: t.wait}
	case len(t.errs) > 0:
		return nil, &RedisError{Op: "acquire", Resource: resource, Err: t.err()}
	default:
		return nil, &RedisError{Op: "acquire", Resource: resource, Err: a.err}
	}
}

// askAcquire runs the acquire script on a node.
func askAcquire(r *round, n *node) vote {
	reply, err := n.number(r.ctx, acquireScript,
		[]any{r.keys.lock, r.keys.fence}, []any{r.value, r.ttl.Milliseconds(), fenceRetention}, false)
	switch {
	case err != nil:
		return vote{outcome: failed, err: err}
	case reply > 0:
		return vote{outcome: granted, token: reply}
	default:
		return vote{outcome: refused, wait: time.Duration(-1-reply) * time.Millisecond}
	}
}

// attempt is one try to acquire a lock, which goes on in the background when its caller has left.
type attempt struct {
	round *round
	start time.Time     // before anything was sent: validity counts from here
	done  chan struct{} // closed when what follows is set
	err   error
	token int64

	fate fate
}

func newAttempt(r *round) *attempt { return &attempt{round: r, start: time.Now()} }

// attempt starts one in the background.
func (m *RedisLockManager) attempt(r *round) *attempt {
	a := newAttempt(r)
	a.done = make(chan struct{})
	m.tasks.spawn(func() {
		token, err := a.run()
		a.token, a.err = token, err
		if !a.fate.decide(delivered) {
			a.round.abandon()
		}
		close(a.done)
	})
	return a
}

// run asks the nodes and makes the majority agree on the token.
func (a *attempt) run() (int64, error) {
	r := a.round
	err := r.decide(func(mutex *redsync.Mutex) error { return mutex.TryLockContext(r.context()) })
	var token int64
	if err == nil {
		token, err = r.agree()
	}
	if err == nil && !time.Now().Before(a.start.Add(validity(r.ttl))) {
		err = errTooLate
	}
	if err != nil {
		r.discard()
		return 0, err
	}
	return token, nil
}

// abandon gives an attempt up, so that whatever it acquires is given back. It reports false if the attempt has come to
// an end before; its result counts then.
func (a *attempt) abandon() bool {
	if a.fate.decide(abandoned) {
		return true
	}
	<-a.done
	return false
}
