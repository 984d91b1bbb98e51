package group

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
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
	closed bool
}

// get returns the client. In a cluster it is that of the node which has the key.
func (l *link) get(ctx context.Context) (redis.UniversalClient, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, redis.ErrClosed
	}
	if l.own != nil {
		return l.own, nil
	}
	var master *redis.Client
	if c, ok := redisx.Unwrap[cluster](l.client); ok {
		var err error
		if master, err = c.MasterForKey(ctx, l.key); err != nil {
			return nil, err
		}
	}
	l.own = redisx.Separate(l.client, master, 1, func(o *redis.Options) {
		if l.once {
			o.MaxRetries = -1
		}
	})
	if l.own == nil {
		return l.client, nil // of a kind that we do not know; it has to do
	}
	return l.own, nil
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
