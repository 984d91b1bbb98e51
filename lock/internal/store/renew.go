package store

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// renewalSenders is how many pipelines of renewals may be under way to a server. More than one, so that a connection
	// on which nothing moves does not hold up all locks.
	renewalSenders = 2
	// renewalBatch is how many renewals a pipeline has at most.
	renewalBatch = 500
	// maxLanes is beyond how many servers those that have nothing to do are forgotten.
	maxLanes = 256
)

// renewals extends locks on connections of their own, so that nothing the application does with its pool costs a lock.
// Each master of a cluster has a lane and a client: one that hangs holds up the locks on it and no others.
type renewals struct {
	link

	ctx    context.Context // ends with close
	cancel context.CancelFunc

	mu    sync.Mutex // guards lanes
	lanes map[string]*lane
}

// lane is the renewals that wait to be sent to one server.
type lane struct {
	waiting []renewal
	senders int
	client  redis.UniversalClient // of its own, or else the application's
	own     bool
}

// renewal is a call of a script, how long its reply may take, and what to do with that.
type renewal struct {
	call    call
	timeout time.Duration
	done    func(Reply)
}

func newRenewals(l link) *renewals {
	r := &renewals{link: l, lanes: make(map[string]*lane)}
	r.ctx, r.cancel = context.WithCancel(redisx.Background(context.Background()))
	return r
}

// Renew makes locks last for their TTLs from now. It returns at once, and calls done for each with its index when its
// reply is there, or has not come for the timeout since it was sent: at most once, from any goroutine; after Close maybe
// not at all.
func (s *Redis) Renew(claims []Claim, timeout time.Duration, done func(i int, r Reply)) {
	work := make([]renewal, len(claims))
	for i, c := range claims {
		work[i] = renewal{
			call:    s.scripts.extending(c),
			timeout: min(timeout, s.set.Timeout),
			done:    func(r Reply) { done(i, r) },
		}
	}
	s.renewals.add(work)
}

// Repair sets a lock that this server does not have and a majority of others has just confirmed. It lasts for as long as one
// that was just granted, and so has to be renewed as soon: should it have been released meanwhile, it ends by itself.
// Repair returns at once.
func (s *Redis) Repair(c Claim) {
	s.renewals.add([]renewal{{
		call:    call{s.scripts.repair, []string{c.Keys.Lock(), c.Keys.Fence()}, []any{c.Value, first(c.TTL), c.Token}},
		timeout: s.set.Timeout,
		done:    func(Reply) {},
	}})
}

// add gives work to the lanes, and starts their senders.
func (r *renewals) add(work []renewal) {
	masters := make([]*redis.Client, len(work))
	for i, w := range work { // may ask the cluster, so not under the mutex
		masters[i] = r.master(r.ctx, w.call.keys[0])
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return
	}
	for i, w := range work {
		l := r.lanes[address(masters[i])]
		if l == nil {
			r.prune()
			l = r.newLane(masters[i])
			r.lanes[address(masters[i])] = l
		}
		l.waiting = append(l.waiting, w)
	}
	for _, l := range r.lanes {
		for l.senders < renewalSenders && l.senders*renewalBatch < len(l.waiting) {
			if !r.set.Go(func() { r.send(l) }) {
				return
			}
			l.senders++
		}
	}
}

// newLane makes the lane of a master of a cluster, or of the server. Where that is not known just now the client of the
// cluster finds out, and says why.
func (r *renewals) newLane(master *redis.Client) *lane {
	if r.cluster == nil || master != nil {
		if client := redisx.Separate(r.client, master, renewalSenders); client != nil {
			return &lane{client: client, own: true}
		}
	}
	return &lane{client: r.client}
}

// send is a goroutine that sends what waits in a lane, until there is nothing.
func (r *renewals) send(l *lane) {
	for work := r.take(l); len(work) > 0; work = r.take(l) {
		timeout := r.set.Timeout
		for _, w := range work {
			timeout = min(timeout, w.timeout)
		}
		ctx, cancel := context.WithTimeout(r.ctx, timeout)
		moved := r.sendTo(ctx, l.client, work, r.cluster != nil)
		// Where a slot has moved, or is moving, the client of the cluster follows it.
		r.sendTo(ctx, r.client, moved, false)
		cancel()
	}
}

// sendTo sends renewals. It returns those that the server refused, without calling done, if that is asked for.
func (r *renewals) sendTo(
	ctx context.Context, client redis.UniversalClient, work []renewal, keepRefused bool,
) (refused []renewal) {
	calls := make([]call, len(work))
	for i, w := range work {
		calls[i] = w.call
	}
	var mu sync.Mutex // guards refused
	pipeline(ctx, client, calls, func(i int, number int64, err error) {
		if keepRefused && redisx.IsReply(err) {
			mu.Lock()
			defer mu.Unlock()
			refused = append(refused, work[i])
			return
		}
		work[i].done(extended(number, err))
	})
	return refused
}

// take returns what a sender is to send next, nothing if it is to end.
func (r *renewals) take(l *lane) []renewal {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(l.waiting) == 0 || r.ctx.Err() != nil {
		l.senders--
		return nil
	}
	n := min(len(l.waiting), renewalBatch)
	work := slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	return work
}

// prune ends the lanes of servers that have nothing to do, when there are more than a cluster has masters: addresses come
// and go. The caller holds mu.
func (r *renewals) prune() {
	if len(r.lanes) < maxLanes {
		return
	}
	for addr, l := range r.lanes {
		if l.senders == 0 && len(l.waiting) == 0 {
			l.close()
			delete(r.lanes, addr)
		}
	}
}

func (l *lane) close() {
	if l.own {
		_ = l.client.Close() // what is under way fails
	}
}

// close ends what is under way.
func (r *renewals) close() {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.lanes {
		l.close()
	}
}
