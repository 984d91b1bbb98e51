package lock

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxTries is how often a command is sent when it fails.
	maxTries = 4
	// retryDelay is the first pause before something that failed is sent again; each further one is twice as long.
	retryDelay = 5 * time.Millisecond
)

// send executes a script, in one round trip unless the server has forgotten it, and sends it again after a failure that
// may pass. repeated says that it may have been executed more than once, or that the reply tells of the second time: an
// earlier try came to an end that leaves it open whether it was, or will be.
//
// go-redis' own repetitions would not do: it repeats a pipeline as a whole, and does not tell. What is left to it is to
// follow the redirections of a cluster, which has executed nothing then.
func (n *node) send(r *round, c call) (reply any, repeated bool, err error) {
	delay := retryDelay
	for try := range maxTries {
		if repeated {
			c = c.repetition()
		}
		if reply, err = n.sendOnce(r, c); err == nil || !passes(err) {
			return reply, repeated, err
		}
		repeated = repeated || !refusal(err)
		if n.cluster != nil {
			n.cluster.ReloadState(r.ctx) // in the background: another node may be the master by now
		}
		if try == maxTries-1 || !r.pause(delay) {
			break
		}
		delay *= 2
	}
	return nil, repeated, err
}

// sendOnce executes a script.
func (n *node) sendOnce(r *round, c call) (any, error) {
	loaded := &n.loaded[c.script.index]
	// The first call carries the source, as asking by hash first would cost a round trip to be told that it is unknown.
	known := loaded.Load()
	c.whole = !known
	reply, err := n.batches.process(r, c)
	if known && err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
		// The server was restarted or flushed, or it is another node of the cluster.
		c.whole = true
		reply, err = n.batches.process(r, c)
	}
	if err == nil && !known {
		loaded.Store(true) // or nearly: it may have gone together with others, which costs us a round trip once
	}
	return reply, err
}

// passes reports whether what failed so may succeed when it is sent again in a moment: the network failed, or the server
// is starting or changing its role.
func passes(err error) bool {
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, redis.ErrPoolTimeout) {
		return true
	}
	for _, prefix := range [...]string{"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}

// refusal reports whether what failed so was not executed: the server has said so, or was not asked.
func refusal(err error) bool {
	var reply redis.Error
	var network *net.OpError
	return errors.As(err, &reply) || errors.Is(err, redis.ErrPoolTimeout) || errors.As(err, &network) && network.Op == "dial"
}

// pause waits and reports whether there is still time, and interest, after it.
func (r *round) pause(d time.Duration) bool {
	timer := time.NewTimer(min(d, r.left()))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.quit:
	case <-r.closing:
	}
	return r.ended() == nil
}

// pause waits and reports whether it did: false means that ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
