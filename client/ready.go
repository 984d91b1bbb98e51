package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// firstPause and longestPause bound the wait between two pings.
	firstPause   = 20 * time.Millisecond
	longestPause = 500 * time.Millisecond
)

// WaitReady pings until the server answers, and a majority of the lock nodes where
// there are any, or until ctx ends; without an end of ctx it waits as long as it
// takes. Each ping has the ping timeout at most. In a Cluster every master must
// answer.
//
// It returns nil, or an *Error with the address that wraps the last thing Redis or
// the network said, and the context's error if that is why it gave up. A wrong
// password, a failed TLS handshake and other answers that time does not change
// make it return at once. It returns ErrInvalidArgument without a ctx,
// ErrNotStarted before Open and ErrClosed after Close.
func (r *Redis) WaitReady(ctx context.Context) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	var last error
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		if err := r.usable(); err != nil {
			return err
		}
		err := r.main.ask(ctx)
		if err == nil {
			err = r.askLockNodes(ctx)
		}
		if err == nil {
			return nil
		}
		// "Deadline exceeded" says less than the refusal that came before.
		if last == nil || !isContext(err) {
			last = err
		}
		kind := classify(last)
		if permanent(kind) {
			return r.fail(kind, last)
		}
		if err := redisx.Sleep(ctx, pause); err != nil {
			if !errors.Is(last, err) {
				last = fmt.Errorf("%w (%w)", last, err)
			}
			return r.fail(kind, last)
		}
	}
}

// usable returns ErrNotStarted or ErrClosed when there is no point in asking Redis.
func (r *Redis) usable() error {
	switch r.gate.state.Load() {
	case gateShut:
		return ErrNotStarted
	case gateClosed:
		return ErrClosed
	default:
		return nil
	}
}

// fail wraps err, unless it is about the state of the client itself.
func (r *Redis) fail(kind, err error) error {
	if errors.Is(kind, ErrNotStarted) || errors.Is(kind, ErrClosed) {
		return kind
	}
	addr := r.Addr()
	if node, ok := errors.AsType[*nodeError](err); ok {
		addr = "lock node " + node.addr
	}
	return &Error{Addr: addr, Kind: kind, Err: err}
}
