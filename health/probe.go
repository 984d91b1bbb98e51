package health

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

var (
	// ErrTimeout is matched by the error of a check that did not answer in time.
	ErrTimeout = errors.New("health: timed out")
	// ErrHanging is matched by the error of a check that was not started because
	// its earlier run, long past its timeout, has not returned.
	ErrHanging = errors.New("health: still hanging")
)

var errExited = errors.New("health: check ended its goroutine instead of returning")

// PanicError is the error of a check that panicked.
type PanicError struct {
	Value any    // what was given to panic
	Stack []byte // where, as debug.Stack prints it; not part of Error
}

// Error shows the value, not the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("health: check panicked: %v", e.Value) }

// Unwrap returns the value if it is an error, else nil.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// probe is a check and the run of it that is under way, of which there is at
// most one: a server that hangs is probed every few seconds, and each probe
// would otherwise leave one more goroutine behind.
type probe struct {
	check Check

	mu      sync.Mutex // guards current
	current *run       // nil when no run is under way
}

// run is one call of a check's function, awaited by any number of callers.
type run struct {
	started time.Time
	timeout time.Duration

	done     chan struct{} // closed when the function has returned
	err      error         // valid after done
	warnings []string      // valid after done
	latency  time.Duration // valid after done
}

// start returns the run under way, or starts one.
func (p *probe) start(ctx context.Context) *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil {
		return p.current
	}
	r := &run{started: time.Now(), timeout: p.check.Timeout, done: make(chan struct{})}
	p.current = r
	// The run belongs to all who join it, so the first one's cancellation must
	// not end it. It ends a little before the callers stop waiting.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.timeout-r.timeout/10)
	go func() {
		defer cancel()
		// This stays the error when the function leaves by runtime.Goexit, as
		// t.FailNow does: deferred calls are all that still happens then.
		err := errExited
		defer func() { p.finish(ctx, r, err) }()
		r.warnings, err = p.call(ctx)
	}()
	return r
}

// finish records the outcome of r and wakes those that wait for it.
func (p *probe) finish(ctx context.Context, r *run, err error) {
	r.latency = time.Since(r.started)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("%w (limit %v): %w", ErrTimeout, r.timeout, err)
	}
	r.err = err
	// Make room for the next run before waking anybody: otherwise a caller
	// could probe again and get the old result.
	p.mu.Lock()
	p.current = nil
	p.mu.Unlock()
	close(r.done)
}

// call runs the check's functions and turns a panic into an error.
func (p *probe) call(ctx context.Context) (warnings []string, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	if err := p.check.Func(ctx); err != nil {
		_ = err.Error() // which may panic as well, such as that of a nil pointer in an error
		return nil, err
	}
	if p.check.Warnings == nil {
		return nil, nil
	}
	return p.check.Warnings(), nil
}

// wait returns how long the run has taken so far and its outcome, which is without
// warnings unless it succeeded. It returns when the run has ended, its timeout is over, or ctx has ended.
func (r *run) wait(ctx context.Context) (time.Duration, []string, error) {
	elapsed := time.Since(r.started)
	if elapsed >= r.timeout {
		select {
		case <-r.done: // it ended between start and here
			return r.latency, r.warnings, r.err
		default:
		}
		return elapsed, nil, fmt.Errorf("%w: started %v ago with a timeout of %v", ErrHanging, elapsed.Round(time.Millisecond), r.timeout)
	}
	timer := time.NewTimer(r.timeout - elapsed)
	defer timer.Stop()
	select {
	case <-r.done:
		return r.latency, r.warnings, r.err
	case <-timer.C:
		return time.Since(r.started), nil, fmt.Errorf("%w (limit %v), and does not heed its context", ErrTimeout, r.timeout)
	case <-ctx.Done():
		return time.Since(r.started), nil, fmt.Errorf("health: probe ended before the check answered: %w", context.Cause(ctx))
	}
}
