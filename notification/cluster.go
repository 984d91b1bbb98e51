package notification

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/unwrap"
)

// cluster is what a *redis.ClusterClient can do beyond the common interface.
type cluster interface {
	ReloadState(ctx context.Context)
	MasterForKey(ctx context.Context, key string) (*redis.Client, error)
}

// lookAround makes a cluster client ask who the masters are now. By itself it does so when a node sends it
// elsewhere, which a dead one never does, or when what it knows is ten seconds old.
func lookAround(ctx context.Context, client redis.UniversalClient) {
	if c, ok := unwrap.As[cluster](client); ok {
		c.ReloadState(ctx)
	}
}

// home returns the client to subscribe with. In a cluster it is that of the node with the journal: other nodes
// deliver too, but the bus between them may lose messages, and nobody would know.
func (p *pump) home(ctx context.Context) (redis.UniversalClient, error) {
	c, ok := unwrap.As[cluster](p.system.client)
	if !ok {
		return p.system.client, nil
	}
	node, err := c.MasterForKey(ctx, p.system.keys.journal)
	if err != nil {
		return nil, err
	}
	// The node itself knows better than the client whether it has the journal; if not it says MOVED.
	if err := node.Exists(ctx, p.system.keys.journal).Err(); err != nil {
		return nil, err
	}
	return node, nil
}
