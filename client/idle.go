package client

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// idleInterval is how often the number of idle connections is looked at. It only
// matters after connections broke, so it need not be quick.
const idleInterval = 10 * time.Second

// idleKeeper keeps MinIdleConns connections open. go-redis would do so itself, but
// it begins inside its constructor, before the gate is open, and fails there.
type idleKeeper struct {
	client *redis.Client
	// least is how many idle connections there should be, most how many
	// connections in all.
	least, most int
	// probe tells whether the server can be reached at all.
	probe func(ctx context.Context) error
	// budget bounds one attempt to open a connection.
	budget  time.Duration
	running sync.WaitGroup
}

// newIdleKeeper returns nil where there is nothing to keep, which is also the case
// in a Cluster: see endpoint.connect.
func newIdleKeeper(e *endpoint, c redis.UniversalClient, probe func(context.Context) error) *idleKeeper {
	single, ok := c.(*redis.Client)
	least := min(e.options.MinIdleConns, e.options.PoolSize)
	if !ok || least <= 0 {
		return nil
	}
	return &idleKeeper{
		client: single, least: least, most: e.options.PoolSize,
		probe: probe, budget: e.options.DialTimeout + time.Second,
	}
}

// start begins to keep connections open until ctx ends. It does not wait.
func (k *idleKeeper) start(ctx context.Context) {
	if k == nil {
		return
	}
	k.running.Go(func() {
		tick := time.NewTicker(idleInterval)
		defer tick.Stop()
		for {
			k.fill(ctx)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
}

// wait returns when the goroutine has ended.
func (k *idleKeeper) wait() {
	if k != nil {
		k.running.Wait()
	}
}

// fill opens what is missing by holding several connections at once and giving
// them back. It stops at the first that fails: while Redis is down, once per
// interval is enough.
func (k *idleKeeper) fill(ctx context.Context) {
	stats := k.client.PoolStats()
	idle, total := int(stats.IdleConns), int(stats.TotalConns)
	if idle >= k.least || total+k.least-idle > k.most {
		return // enough, or the pool is busy and grows by itself
	}
	ctx, cancel := context.WithTimeout(ctx, k.budget)
	defer cancel()
	if k.probe(ctx) != nil {
		return
	}
	for range k.least {
		conn := k.client.Conn()
		defer func() { _ = conn.Close() }()
		if conn.Ping(ctx).Err() != nil {
			return
		}
	}
}
