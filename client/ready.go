package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// firstPause and longestPause bound the wait between two pings.
	firstPause   = 20 * time.Millisecond
	longestPause = 500 * time.Millisecond
)

// WaitReady pings until the server answers, or until ctx ends; without an end of
// ctx it waits as long as it takes. Each ping has the ping timeout at most. In a
// Cluster every master must answer.
//
// It returns nil, or an *Error with the address that wraps the last thing Redis or
// the network said, and the context's error if that is why it gave up. A wrong
// password, a failed TLS handshake and other answers that time does not change
// make it return at once. It returns ErrNotStarted before Open and ErrClosed after
// Close.
func (r *Redis) WaitReady(ctx context.Context) error {
	var last error
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		if err := r.usable(); err != nil {
			return err
		}
		err := r.probe(ctx)
		if err == nil {
			err = r.ping(ctx)
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
		if err := sleep(ctx, pause); err != nil {
			if !errors.Is(last, err) {
				last = fmt.Errorf("%w (%w)", last, err)
			}
			return r.fail(kind, last)
		}
	}
}

// ping sends one PING to the server, or to every master of a Cluster.
func (r *Redis) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.PingTimeout)
	defer cancel()
	if c, ok := r.UniversalClient.(*redis.ClusterClient); ok {
		err := c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			return answered(node.Ping(ctx).Err())
		})
		if err == nil {
			r.gate.succeeded() // the nodes' commands do not pass our hook
		}
		return err
	}
	return answered(r.UniversalClient.Ping(ctx).Err())
}

// answered forgives a user who may not PING: that, too, is an answer.
func answered(err error) error {
	if err != nil && redis.IsPermissionError(err) {
		return nil
	}
	return err
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
	return &Error{Addr: r.Addr(), Kind: kind, Err: err}
}

// sleep waits for d and returns the context's error if it ends before.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
