package client

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
)

// idleKeeper keeps MinIdleConns connections open, in a Cluster to every master.
// go-redis would do so itself, but it begins inside its constructor, before the
// gate is open, and fails there.
type idleKeeper struct {
	server *server
	least  int             // how many idle connections there should be
	every  time.Duration   // how often that is looked at
	ended  chan struct{}   // closed when the goroutine has ended; nil before start
	faults redisx.Repeated // of hooks and the Dialer
}

// newIdleKeeper returns nil where there is nothing to keep.
func newIdleKeeper(s *server) *idleKeeper {
	least := min(s.endpoint.options.MinIdleConns, s.endpoint.maxConns())
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
	k.ended = make(chan struct{})
	go func() {
		defer close(k.ended)
		tick := time.NewTicker(k.every)
		defer tick.Stop()
		for {
			if err := foreign(redisx.Apart(k.round)); isForeign(err) {
				k.faults.Log(k.server.log, zap.ErrorLevel, "cache: idle connections are not opened", zap.Error(err))
			}
			select {
			case <-k.server.gate.done.Done():
				return
			case <-tick.C:
			}
		}
	}()
}

// wait returns when the goroutine has ended, or with ctx: a hook of the application may not return, or have called Close.
func (k *idleKeeper) wait(ctx context.Context) {
	if k == nil || k.ended == nil {
		return
	}
	select {
	case <-k.ended:
	case <-ctx.Done():
	}
}

// round opens what is missing, and returns an error if it cannot. That is left to the next round: while Redis is
// down, once per interval is enough.
func (k *idleKeeper) round() error {
	// The whole round counts as a command: it gives connections back at its end.
	gate := k.server.gate
	if gate.enter() != nil {
		return nil
	}
	defer gate.leave()
	limit := k.server.endpoint.options.DialTimeout + time.Second
	ctx, cancel := context.WithTimeout(redisx.Background(gate.done), limit) // Close ends it
	defer cancel()
	if err := k.server.reachable(ctx); err != nil {
		return err // rather than to ask sentinels that are down
	}
	switch c := k.server.client.(type) {
	case *redis.Client:
		return k.fill(ctx, c)
	case *redis.ClusterClient:
		return c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			return redisx.Apart(func() error { return k.fill(ctx, node) }) // go-redis calls this in goroutines of its own
		})
	}
	return nil
}

// fill holds as many connections of c as should be idle, and gives them back.
func (k *idleKeeper) fill(ctx context.Context, c *redis.Client) error {
	stats := c.PoolStats()
	idle, total := int(stats.IdleConns), int(stats.TotalConns)
	if idle >= k.least || total+k.least-idle > k.server.endpoint.maxConns() {
		return nil // enough, or the pool is busy and grows by itself
	}
	for range k.least {
		conn := c.Conn()
		defer func() { _ = conn.Close() }() // back to the pool, unless it is broken
		if err := conn.Ping(ctx).Err(); err != nil {
			return err
		}
	}
	return nil
}
