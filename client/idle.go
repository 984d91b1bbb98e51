package client

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// idleInterval is how often the number of idle connections is looked at. It only
// matters after connections broke or a master changed, so it need not be quick.
const idleInterval = 10 * time.Second

// idleKeeper keeps MinIdleConns connections open, in a Cluster to every master.
// go-redis would do so itself, but it begins inside its constructor, before the
// gate is open, and fails there.
type idleKeeper struct {
	client redis.UniversalClient
	gate   *gate
	// reachable keeps a round from asking sentinels that are down.
	reachable func(ctx context.Context) error
	// least is how many idle connections there should be, most how many
	// connections in all.
	least, most int
	every       time.Duration
	// budget bounds one round.
	budget  time.Duration
	running sync.WaitGroup
	stopped chan struct{} // closed by stop
}

// newIdleKeeper returns nil where there is nothing to keep.
func newIdleKeeper(s *server) *idleKeeper {
	e := s.endpoint
	least := min(e.options.MinIdleConns, e.options.PoolSize)
	if least <= 0 {
		return nil
	}
	return &idleKeeper{
		client: s.client, gate: s.gate, reachable: s.reachable, stopped: make(chan struct{}), least: least, most: e.options.PoolSize,
		every: idleInterval, budget: e.options.DialTimeout + time.Second,
	}
}

// start begins to keep connections open until stop. It does not wait.
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
			case <-k.stopped:
				return
			case <-tick.C:
			}
		}
	})
}

// stop makes the round under way the last.
func (k *idleKeeper) stop() {
	if k != nil {
		close(k.stopped)
	}
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
	if k.gate.enter() != nil {
		return
	}
	defer k.gate.leave()
	ctx, cancel := context.WithTimeout(redisx.Background(k.gate.done), k.budget) // Close ends it
	defer cancel()
	if k.reachable(ctx) != nil {
		return
	}
	switch c := k.client.(type) {
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
	if idle >= k.least || total+k.least-idle > k.most {
		return // enough, or the pool is busy and grows by itself
	}
	held := make([]*redis.Conn, 0, k.least)
	for range k.least {
		conn := c.Conn()
		held = append(held, conn)
		if conn.Ping(ctx).Err() != nil {
			break
		}
	}
	for _, conn := range held {
		_ = conn.Close() // back to the pool, unless it is broken
	}
}
