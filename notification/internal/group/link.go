package group

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// followEvery is for how long a connection to what Sentinel says is the master is used. A former master that nobody could
	// demote goes on to answer, and only a new connection shows that there is another one.
	followEvery = 10 * time.Second
	// followWithin is how long a new one may take until the one before it is used again.
	followWithin = 3 * time.Second
	// replyWithin is how long a command waits for its reply where the client has no time-out. A silent connection would hold up
	// the member for good.
	replyWithin = readPatience
)

// cluster is what a *redis.ClusterClient can do beyond the common interface.
type cluster interface {
	ReloadState(ctx context.Context)
	MasterForKey(ctx context.Context, key string) (*redis.Client, error)
}

// link is a connection of the member's own to the server that has the group. What waits on it keeps nobody from a
// connection of the application's pool, and what the application waits for keeps nobody from the group.
type link struct {
	client redis.UniversalClient // the application's
	key    string                // of the group
	once   bool                  // commands that fail are repeated by whoever sends them, and not by the connection

	mu     sync.Mutex    // guards what follows
	own    *redis.Client // nil until it is needed, and after a failure
	opened time.Time     // own, or the last attempt to replace it
	closed bool
}

// get returns the client, which the next call of get may close. In a cluster it is that of the node which has the key.
func (l *link) get(ctx context.Context) (redis.UniversalClient, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, redis.ErrClosed
	}
	if l.own != nil {
		if redisx.FollowsSentinel(l.client) && time.Since(l.opened) >= followEvery {
			l.follow(ctx)
		}
		return l.own, nil
	}
	var master *redis.Client
	if c, ok := redisx.Unwrap[cluster](l.client); ok {
		var err error
		if master, err = c.MasterForKey(ctx, l.key); err != nil {
			return nil, err
		}
	}
	if l.own = l.open(master); l.own == nil {
		return l.client, nil // of a kind that we do not know; it has to do
	}
	return l.own, nil
}

// open returns a new client, nil if that is impossible. The caller holds mu.
func (l *link) open(master *redis.Client) *redis.Client {
	l.opened = time.Now()
	return redisx.Separate(l.client, master, 1, func(o *redis.Options) {
		for _, timeout := range []*time.Duration{&o.ReadTimeout, &o.WriteTimeout} {
			if *timeout <= 0 {
				*timeout = replyWithin
			}
		}
		if l.once {
			o.MaxRetries = -1
		}
	})
}

// follow goes on with a new connection, to where Sentinel leads by now. The one that there is stays if no Sentinel answers, or
// the server accepts no more: it works. The caller holds mu.
func (l *link) follow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, followWithin)
	defer cancel()
	next := l.open(nil)
	if err := next.Ping(ctx).Err(); err != nil && (!redisx.IsReply(err) || redisx.IsTransient(err)) {
		_ = next.Close()
		return
	}
	_ = l.own.Close()
	l.own = next
}

// failed notes that a command failed on what get returned. After anything but a plain answer the next one begins with new
// connections: the server may not be the one with the group any more.
func (l *link) failed(ctx context.Context, c redis.UniversalClient, err error) {
	if redisx.IsReply(err) && !redisx.IsTransient(err) && !isMoved(err) {
		return
	}
	l.mu.Lock()
	own := l.own
	if own == nil || c != redis.UniversalClient(own) {
		l.mu.Unlock()
		return // another one has noticed already
	}
	l.own = nil
	l.mu.Unlock()
	_ = own.Close()
	if c, ok := redisx.Unwrap[cluster](l.client); ok {
		c.ReloadState(ctx)
	}
}

// close ends all connections, whatever waits on them.
func (l *link) close() {
	l.mu.Lock()
	own := l.own
	l.own, l.closed = nil, true
	l.mu.Unlock()
	if own != nil {
		_ = own.Close()
	}
}
