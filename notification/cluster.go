package notification

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
)

// cluster is what a *redis.ClusterClient can do beyond the common interface.
type cluster interface {
	ReloadState(ctx context.Context)
	MasterForKey(ctx context.Context, key string) (*redis.Client, error)
}

// lookAround makes a cluster client ask who the masters are now. By itself it does so when a node sends it
// elsewhere, which a dead one never does, or when what it knows is ten seconds old.
func lookAround(ctx context.Context, client redis.UniversalClient) {
	if c, ok := redisx.Unwrap[cluster](client); ok {
		c.ReloadState(ctx)
	}
}

// home returns the client to subscribe with. In a cluster it is that of the node with the journal: other nodes
// deliver too, but the bus between them may lose messages, and nobody would know.
func (p *pump) home(ctx context.Context) (redis.UniversalClient, error) {
	c, ok := redisx.Unwrap[cluster](p.system.client)
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

// errMoved ends a session when another node has taken over the journal.
var errMoved = errors.New("notification: the journal is on another node now")

// guard makes a node of a cluster say when it is no longer the one with the journal: it then ends what was subscribed
// to as sharded channels. All else goes on after that, and a node that was cut off for a while would bring what others
// publish now without what they have published meanwhile.
func (p *pump) guard(s *session) error {
	if _, ok := redisx.Unwrap[cluster](p.system.client); !ok {
		return nil
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	s.asked = append(s.asked, question{subject: subject{name: s.beats}})
	return s.pubsub.SSubscribe(dead(), s.beats)
}

// unguarded handles the refusal of that, by a server that does not know it or to a user who may not do it. (A node that is
// the wrong one says MOVED, which ends the session.)
func (p *pump) unguarded(err error) {
	p.unguardedBy(fmt.Errorf("notification: SSUBSCRIBE refused, so a node that loses the journal does not say so: %w", err))
	p.refusing.Log(p.system.set.logger, zap.WarnLevel, "notification: node does not tell when it loses the journal", zap.Error(err))
}
