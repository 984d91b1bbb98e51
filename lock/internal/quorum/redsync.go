package quorum

import (
	"context"
	"time"

	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis"

	"github.com/compozy/cache/lock/internal/store"
)

// mutex is what has redsync put a vote to all servers and count. The TTL matters only for redsync's check that the answers
// have come in time, which the caller repeats with the true one.
func (v *vote) mutex() *redsync.Mutex {
	pools := make([]redis.Pool, len(v.nodes))
	for i, n := range v.nodes {
		pools[i] = pool{v, n}
	}
	return redsync.New(pools...).NewMutex(v.claim.Keys.Lock(),
		redsync.WithExpiry(min(v.claim.TTL, store.FirstGrant)),
		redsync.WithValue(v.claim.Value),
		redsync.WithGenValueFunc(func() (string, error) { return v.claim.Value, nil }),
		redsync.WithFailFast(true), // return when the majority has decided
	)
}

// pool is a server as redsync sees it in one vote.
type pool struct {
	vote *vote
	node *node
}

// Get implements redis.Pool. The servers are asked with the context of the vote.
func (p pool) Get(context.Context) (redis.Conn, error) { return conn{vote: p.vote, node: p.node}, nil }

// conn puts the vote to the server, whatever redsync asks. What it does not ask is left to the interface, which is nil.
type conn struct {
	redis.Conn

	vote *vote
	node *node
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
	r := c.vote.put(c.node)
	if r.Outcome == store.Granted {
		return int64(1), nil
	}
	return int64(0), r.Err // redsync counts those without an error, and waits for no others once they are a majority
}

// Close implements redis.Conn.
func (conn) Close() error { return nil }
