package quorum

import (
	"context"
	"errors"
	"time"

	"github.com/go-redsync/redsync/v4/redis"

	"github.com/compozy/cache/lock/internal/store"
)

var errUnsupported = errors.New("not used by locks")

// pool makes a server known to redsync. What redsync calls a connection is one call within a vote.
type pool struct{ node *node }

// Get implements redis.Pool.
func (p pool) Get(ctx context.Context) (redis.Conn, error) {
	v, ok := ctx.Value(voteKey{}).(*vote)
	if !ok {
		return nil, errUnsupported
	}
	return conn{node: p.node, vote: v}, nil
}

// conn translates the calls of redsync into ours.
type conn struct {
	node *node
	vote *vote
}

// SetNX takes the lock on this server.
func (c conn) SetNX(string, string, time.Duration) (bool, error) {
	r := c.vote.put(c.node)
	return r.Outcome == store.Granted, r.Err
}

// Eval is how redsync releases, extends, and cleans up after a refusal. The vote does the last, where it is needed, and
// makes nobody wait for it.
func (c conn) Eval(*redis.Script, ...any) (any, error) {
	if c.vote.verb == acquiring {
		return int64(1), nil
	}
	switch r := c.vote.put(c.node); {
	case r.Outcome == store.Granted:
		return int64(1), nil
	case r.Outcome == store.Absent && c.vote.verb == releasing:
		return int64(-1), nil // redsync's way to say that the lock had expired
	default:
		return int64(0), r.Err
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
