package store

import (
	"context"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// renewalSenders is how many pipelines of renewals may be under way to a server. More than one, so that a connection
	// on which nothing moves does not hold up all locks.
	renewalSenders = 2
	// renewalBatch is how many renewals a pipeline has at most.
	renewalBatch = 500
)

// renewals extends locks on connections of their own, so that nothing the application does with its pool costs a lock.
// Each master of a cluster has a lane: one that hangs holds up the locks on it and no others.
type renewals struct {
	store  *Redis
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex // guards what follows
	client redis.UniversalClient
	own    bool // the client is to be closed
	lanes  map[string]*lane
	closed bool
}

// lane is the renewals that wait to be sent to one server.
type lane struct {
	waiting []renewal
	senders int
}

// renewal is a call of a script and what to do with its reply.
type renewal struct {
	call call
	done func(Reply)
}

func newRenewals(s *Redis) *renewals {
	r := &renewals{store: s, lanes: make(map[string]*lane)}
	r.ctx, r.cancel = context.WithCancel(redisx.Background(context.Background()))
	return r
}

// Renew makes locks last for their TTLs from now. It returns at once, and calls done for each with its index when its
// reply is there, at most once, from any goroutine; after Close maybe not at all.
func (s *Redis) Renew(claims []Claim, done func(i int, r Reply)) {
	work := make([]renewal, len(claims))
	for i, c := range claims {
		work[i] = renewal{
			call: call{s.scripts.extend, []string{c.Keys.Lock()}, []any{c.Value, c.TTL.Milliseconds()}},
			done: func(r Reply) { done(i, r) },
		}
	}
	s.renewals.add(work)
}

// Repair sets locks that this server does not have and a majority of others has just confirmed. They last for as long as
// a lock that was just granted, and the next renewal extends them: should one have been released meanwhile, it ends by
// itself. Repair returns at once.
func (s *Redis) Repair(claims []Claim) {
	work := make([]renewal, len(claims))
	for i, c := range claims {
		work[i] = renewal{
			call: call{s.scripts.repair, []string{c.Keys.Lock(), c.Keys.Fence()}, []any{c.Value, first(c.TTL), c.Token}},
			done: func(Reply) {},
		}
	}
	s.renewals.add(work)
}

// add gives work to the lanes, and starts their senders.
func (r *renewals) add(work []renewal) {
	servers := make([]string, len(work))
	for i, w := range work {
		servers[i] = r.store.commands.Server(r.ctx, w.call.keys[0]) // may ask the cluster, so not under the mutex
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	for i, w := range work {
		l := r.lanes[servers[i]]
		if l == nil {
			l = &lane{}
			r.lanes[servers[i]] = l
		}
		l.waiting = append(l.waiting, w)
	}
	for server, l := range r.lanes {
		for l.senders < renewalSenders && l.senders*renewalBatch < len(l.waiting) {
			if !r.store.set.Go(func() { r.send(server, l) }) {
				return
			}
			l.senders++
		}
	}
}

// send is a goroutine that sends what waits in a lane, until there is nothing.
func (r *renewals) send(server string, l *lane) {
	for work, client := r.take(server, l); len(work) > 0; work, client = r.take(server, l) {
		calls := make([]call, len(work))
		for i, w := range work {
			calls[i] = w.call
		}
		ctx, cancel := context.WithTimeout(r.ctx, r.store.set.Timeout)
		pipeline(ctx, client, calls, func(i int, number int64, err error) { work[i].done(extended(number, false, err)) })
		cancel()
	}
}

// take returns what to send next, nothing if the sender is to end. A lane ends with its last sender.
func (r *renewals) take(server string, l *lane) ([]renewal, redis.UniversalClient) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(l.waiting) == 0 || r.closed {
		if l.senders--; l.senders == 0 {
			delete(r.lanes, server)
		}
		return nil, nil
	}
	n := min(len(l.waiting), renewalBatch)
	work := slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	if r.client == nil {
		if r.client, r.own = redisx.Separate(r.store.client, renewalSenders); !r.own {
			r.client = r.store.client
		}
	}
	return work, r.client
}

// close ends what is under way.
func (r *renewals) close() {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.own {
		_ = r.client.Close() // what is under way fails
		r.own = false
	}
}
