package near

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/compozy/cache/internal/redisx"
)

// surveyors is how many connections to a node there may be for asking who the masters are. One is used; go-redis asks nobody
// for a second after as many dials as that have failed.
const surveyors = 2

// survey keeps a session with each master of a cluster.
func (t *Tracker) survey(app *redis.ClusterClient) {
	own := t.surveyor(app)
	defer func() { _ = own.Close() }()
	for failures := 0; ; {
		masters, err := masters(t.ctx, own)
		if t.ctx.Err() != nil {
			return
		}
		if err != nil {
			failures++
			t.failed(err, failures)
			_ = redisx.Sleep(t.ctx, redisx.Backoff(failures, minPause, maxPause))
			continue
		}
		failures = 0
		t.reconcile(masters)
		// Everything that goes wrong asks for another look, and may do so often.
		if redisx.Sleep(t.ctx, minPause) != nil {
			return
		}
		select {
		case <-t.changes:
		case <-t.ctx.Done():
			return
		}
	}
}

// surveyor returns a client for the cluster with connections of its own, as redisx.Separate does for a server.
func (t *Tracker) surveyor(app *redis.ClusterClient) *redis.ClusterClient {
	options := *app.Options()
	options.PoolSize, options.MinIdleConns, options.MaxIdleConns, options.MaxActiveConns = surveyors, 0, 0, 0
	options.ContextTimeoutEnabled = true
	options.PushNotificationProcessor = nil
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	own := redis.NewClusterClient(&options)
	if hooker, ok := redisx.Unwrap[redisx.ConnectionHooker](t.set.Client); ok {
		own.OnNewNode(func(node *redis.Client) { node.AddHook(hooker.ConnectionHook()) })
	}
	return own
}

// masters returns the clients of all masters that have slots, by their addresses.
func masters(ctx context.Context, c *redis.ClusterClient) (map[string]*redis.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	found, err := redisx.Masters(ctx, c)
	if err == nil && len(found) == 0 {
		err = errors.New("store: the cluster has no master")
	}
	return found, err
}

// reconcile begins sessions with masters that are new, and ends those with servers that are masters no more.
func (t *Tracker) reconcile(masters map[string]*redis.Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for addr, m := range t.masters {
		if masters[addr] == nil {
			delete(t.masters, addr)
			m.cancel()
		}
	}
	for addr, node := range masters {
		if t.masters[addr] == nil {
			t.follow(addr, node)
		}
	}
	t.weigh()
}

// covers reports whether there is a session with each of some nodes of the cluster, and m is one of them.
func (t *Tracker) covers(ids map[string]bool, m *master) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	heard := make(map[string]bool, len(t.masters))
	for _, one := range t.masters {
		heard[one.id] = true
	}
	for id := range ids {
		if !heard[id] {
			return false
		}
	}
	return ids[m.id]
}
