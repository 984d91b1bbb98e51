package lock

import (
	"context"
	"errors"
	"time"

	"github.com/go-redsync/redsync/v4/redis"
)

var (
	errUnexpectedReply = errors.New("unexpected reply of a script")
	errUnsupported     = errors.New("not used by locks")
)

// pool makes a node known to redsync. What redsync calls a connection is one call within a round.
type pool struct{ node *node }

var _ redis.Pool = pool{}

// Get implements redis.Pool.
func (p pool) Get(ctx context.Context) (redis.Conn, error) {
	r, ok := ctx.Value(roundKey{}).(*round)
	if !ok {
		return nil, errUnsupported
	}
	return conn{node: p.node, round: r}, nil
}

// conn translates the calls of redsync into ours.
type conn struct {
	node  *node
	round *round
}

var _ redis.Conn = conn{}

// SetNX takes the lock on this node.
func (c conn) SetNX(string, string, time.Duration) (bool, error) {
	v := c.round.ask(c.node)
	return v.outcome == granted, v.err
}

// Eval is how redsync releases and extends.
func (c conn) Eval(*redis.Script, ...any) (any, error) {
	if c.round.verb == acquiring {
		// Clean-up after a refusal. The round knows which nodes need it, most often none, and does not make anybody
		// wait for it.
		c.round.discard()
		return int64(1), nil
	}
	v := c.round.ask(c.node)
	switch v.outcome {
	case granted:
		return int64(1), nil
	case missing:
		if c.round.verb == releasing {
			return int64(-1), nil // redsync's way to say that the lock had expired
		}
		return int64(0), nil
	default:
		return int64(0), v.err
	}
}

// Close implements redis.Conn.
func (conn) Close() error { return nil }

// Get implements redis.Conn.
func (conn) Get(string) (string, error) { return "", errUnsupported }

// Set implements redis.Conn.
func (conn) Set(string, string) (bool, error) { return false, errUnsupported }

// ScriptLoad implements redis.Conn.
func (conn) ScriptLoad(*redis.Script) error { return errUnsupported }

// PTTL implements redis.Conn.
func (conn) PTTL(string) (time.Duration, error) { return 0, errUnsupported }
