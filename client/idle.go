package client

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// idleKeeper keeps MinIdleConns connections open, in a Cluster to every master.
// go-redis would do so itself, but it begins inside its constructor, before the
// gate is open, and fails there.
type idleKeeper struct {
	server  *server
	least   int           // how many idle connections there should be
	every   time.Duration // how often that is looked at
	running sync.WaitGroup
}

// newIdleKeeper returns nil where there is nothing to keep.
func newIdleKeeper(s *server) *idleKeeper {
	least := min(s.endpoint.options.MinIdleConns, s.endpoint.options.PoolSize)
	if least <= 0 {
		return nil
	}
	// Only after connections broke or a master changed is there anything to do.
	return &idleKeeper{server: s, least: least, every: 10 * time.Second}
}

// start begins to keep connections open until the gate closes. It does not wait.
func (k *idleKeeper) start() {
	if k == nil {
		return
	}
	k.running.Go(func() {
		tick := time.NewTicker(k.every)
		defer tick.Stop()
		for {
			k.round()
			select {
			case <-k.server.gate.done.Done():
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

// round opens what is missing. Failures are left to the next round: while Redis is
// down, once per interval is enough.
func (k *idleKeeper) round() {
	// The whole round counts as a command: it gives connections back at its end.
	gate := k.server.gate
	if gate.enter() != nil {
		return
	}
	defer gate.leave()
	limit := k.server.endpoint.options.DialTimeout + time.Second
	ctx, cancel := context.WithTimeout(redisx.Background(gate.done), limit) // Close ends it
	defer cancel()
	if k.server.reachable(ctx) != nil {
		return // rather than to ask sentinels that are down
	}
	switch c := k.server.client.(type) {
	case *redis.Client:
		k.fill(ctx, c)
	case *redis.ClusterClient:
		_ = c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			k.fill(ctx, node)
			return nil
		})
	}
}

// fill holds as many connections of c as should be idle, and gives them back.
func (k *idleKeeper) fill(ctx context.Context, c *redis.Client) {
	stats := c.PoolStats()
	idle, total := int(stats.IdleConns), int(stats.TotalConns)
	if idle >= k.least || total+k.least-idle > k.server.endpoint.options.PoolSize {
		return // enough, or the pool is busy and grows by itself
	}
	for range k.least {
		conn := c.Conn()
		defer func() { _ = conn.Close() }() // back to the pool, unless it is broken
		if conn.Ping(ctx).Err() != nil {
			return
		}
	}
}
