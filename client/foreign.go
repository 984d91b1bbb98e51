package client

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/compozy/cache/internal/redisx"
)

// The application's code runs within ours: hooks of the client, the Dialer, functions of TLSConfig, a TracerProvider. It may
// panic, end its goroutine, or not return, and mostly does so in a goroutine where the application cannot recover.

// foreignError says that the application's code has panicked or ended its goroutine. It does not show what was passed to
// panic: a hook sees the password with which each connection begins.
type foreignError struct{ text string }

func (f foreignError) Error() string { return f.text }

// Unsent is for package redisx: a command meets such a fault only when no connection can be opened.
func (foreignError) Unsent() bool { return true }

// foreign returns err, and a foreignError in the place of what package redisx makes of a panic or a goroutine that ended.
func foreign(err error) error {
	if p, ok := errors.AsType[*redisx.PanicError](err); ok {
		what := ""
		if bug, ok := p.Value.(runtime.Error); ok { // has no values of the application
			what = ": " + bug.Error()
		}
		return foreignError{"client: a hook, the Dialer or another function of the application panics in " + p.Where + what}
	}
	if errors.Is(err, redisx.ErrExited) {
		return foreignError{"client: " + redisx.ErrExited.Error()}
	}
	return err
}

// isForeign reports whether err is a fault of the application's code.
func isForeign(err error) bool {
	_, fault := errors.AsType[foreignError](err)
	return fault
}

// lateness is what a call may take beyond the end of its context to say more than that.
const lateness = 100 * time.Millisecond

// inTime returns the error of what redisx.Go has called, or late if that does not end soon after ctx.
func inTime(ctx context.Context, ended <-chan error) (late bool, err error) {
	over := make(chan struct{})
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lateness, func() { close(over) }) })()
	select {
	case err := <-ended:
		return false, err
	case <-over:
		return true, nil
	}
}

// errOverdue is the error of a call while too many before it have not returned. In a Cluster go-redis asks for the nodes with a
// time of its own.
var errOverdue = errors.New("client: earlier calls have not returned though their time is over: a server hangs, " +
	"or a hook of the client, the Dialer or a function of TLSConfig does not heed its context")

// maxOverdue is how many dials may be overdue before no further one is made, and maxOverdueChecks how many checks of a server.
const (
	maxOverdue       = 100
	maxOverdueChecks = 10
)

// overdue counts the calls, of the application's code or of what calls it, that have not returned though their contexts have
// ended: each keeps goroutines.
type overdue struct{ calls atomic.Int32 }

// call returns the error of f, or late soon after ctx has ended, with the error of that; if f succeeds later, undo is called.
// While as many calls as most are overdue it is late at once. What f panics with is an error.
func (o *overdue) call(ctx context.Context, most int32, f func() error, undo func()) (late bool, err error) {
	if o.calls.Load() >= most {
		return true, errOverdue
	}
	ended := redisx.Go(f)
	if late, err := inTime(ctx, ended); !late {
		return false, foreign(err)
	}
	o.calls.Add(1)
	go func() {
		err := <-ended
		o.calls.Add(-1)
		if err == nil {
			_ = redisx.Catch(func() error { undo(); return nil }) // the application's code as well
		}
	}()
	return true, ctx.Err()
}

// opener opens connections by the application's code.
type opener struct{ overdue }

// open calls f, and returns its connection, or an error soon after ctx has ended. A connection that comes later is closed.
func (o *opener) open(ctx context.Context, network string, f func() (net.Conn, error)) (net.Conn, error) {
	var conn net.Conn // read only after the end of f
	open := func() (err error) {
		conn, err = f()
		return err
	}
	late, err := o.call(ctx, maxOverdue, open, func() { _ = conn.Close() })
	if late {
		return nil, unopened(network, err) // as net does
	}
	return conn, err
}

// unopened is the error of a dial, over whose connection nothing was sent.
func unopened(network string, err error) error {
	return &net.OpError{Op: "dial", Net: network, Err: err}
}
