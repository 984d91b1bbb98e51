package store

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// renewalSenders is how many pipelines of renewals may be under way to a server, but for those that are stuck: more of
	// them would be less full. Where the server is so far that full ones wait, all that are allowed leave.
	renewalSenders = 2
	// minStuck is how long a pipeline may be under way at least until others do not wait for it, as it may be on a connection
	// on which nothing moves any more. That is several round trips to most servers, and little of what the reply to a
	// renewal may take.
	minStuck = 50 * time.Millisecond
	// maxStuck bounds what a server that hangs costs.
	maxStuck = 6
	// renewalBatch is how many renewals a pipeline has at most.
	renewalBatch = 500
	// masterLifetime is for how long a connection to what Sentinel says is the master is used. A former master that nobody
	// could demote goes on to answer, and only a new connection shows that there is another one.
	masterLifetime = time.Second
	// detourTime is for how long the application's connections come first after opening one has hung. With Sentinel they may lead
	// to a former master.
	detourTime = masterLifetime
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

type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// Timeouts say how long the reply to a renewal may take: Open on a connection that is open, and at most Opening where one has
// to be opened first, which takes several round trips, or where the server is far.
type Timeouts struct{ Open, Opening time.Duration }

// Or returns the shorter ones.
func (t Timeouts) Or(other Timeouts) Timeouts {
	return Timeouts{min(t.Open, other.Open), min(t.Opening, other.Opening)}
}

// renewal is a call of a script, how long its reply may take, and what to do with that.
type renewal struct {
	call     call
	timeouts Timeouts
	done     func(Reply)
	due      time.Time // when it is to be sent at the latest, or has failed
}

func newRenewals(l link) *renewals {
	r := &renewals{link: l, lanes: make(map[string]*lane)}
	r.ctx, r.cancel = context.WithCancel(redisx.Background(context.Background()))
	return r
}

// Renew makes locks last for their TTLs from now. It returns at once, and calls done for each with its index when its
// reply is there, or it could not be sent for the time that a reply may take, or the reply has not come in time since: at
// most once, from any goroutine; after Close maybe not at all.
func (s *Redis) Renew(claims []Claim, timeouts Timeouts, done func(i int, r Reply)) {
	work := make([]renewal, 0, len(claims))
	for i, c := range claims {
		try, ok := s.tries(c).confirmed()
		if !ok {
			done(i, Reply{Outcome: Unset})
			continue
		}
		work = append(work, s.renewal(c, try, timeouts, func(r Reply) { done(i, r) }))
	}
	s.renewals.add(work)
}

// renewal returns what makes the lock that a try has set last for the claim's TTL from now.
func (s *Redis) renewal(c Claim, try int, timeouts Timeouts, done func(Reply)) renewal {
	tries, until := s.tries(c), time.Now().Add(c.TTL)
	return renewal{call: s.scripts.extending(c, try), timeouts: timeouts, done: func(r Reply) {
		tries.extended(try, r, until)
		done(r)
	}}
}

// Mend makes a lock that a majority of other servers confirms last for the claim's TTL from now on this server too, in the
// background, unless it is known to have it until then. Where it is not known to be there it is set first, for as long as
// one that was just granted, and extended once that is confirmed: should it be released meanwhile, and what sets it be
// late, it ends by itself.
//
// Mend does nothing while a try to set the lock is under way, and nobody hears of it when it fails: it is to be called
// again until Lasts says that there is nothing to do.
func (s *Redis) Mend(c Claim, until time.Time) {
	tries, now := s.tries(c), time.Now()
	if tries.lasts(until) {
		return
	}
	if !tries.begin() {
		s.mendKnown(c)
		return
	}
	s.renewals.add([]renewal{{
		call: call{
			script: s.scripts.repair, keys: []string{c.Keys.Lock(), c.Keys.Fence()},
			args: []any{c.Value, 0, first(c.TTL), c.Token}, tries: tries,
		},
		timeouts: s.longest(),
		done: func(r Reply) {
			set, lost := r.Outcome == Granted, isLost(r.Err)
			wanted := tries.end(set, lost, now.Add(min(c.TTL, FirstGrant)))
			switch {
			case !wanted && (set || lost):
				s.Reap(c, Lost) // the release may have come before
			case set:
				c.TTL -= time.Since(now)
				s.mendKnown(c)
			}
		},
	}})
}

// mendKnown extends a lock that the server is known to have.
func (s *Redis) mendKnown(c Claim) {
	if try, ok := s.tries(c).wanted(); ok && c.TTL >= time.Millisecond {
		s.renewals.add([]renewal{s.renewal(c, try, s.longest(), func(Reply) {})})
	}
}

// longest is how long a round trip may take at most.
func (l link) longest() Timeouts { return Timeouts{l.set.Timeout, l.set.Timeout} }

// add gives work to the lanes, and starts their senders.
func (r *renewals) add(work []renewal) {
	masters := make([]*redis.Client, len(work))
	for i, w := range work {
		masters[i] = r.master(w.call.keys[0])
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return
	}
	now := time.Now()
	for i, w := range work {
		w.due = now.Add(w.timeouts.Open)
		l := r.lanes[address(masters[i])]
		if l == nil {
			r.prune()
			l = r.newLane(masters[i])
			r.lanes[address(masters[i])] = l
		}
		l.waiting = append(l.waiting, w)
	}
	for _, l := range r.lanes {
		r.start(l)
	}
}

// start starts as many senders as there is work for. The caller holds mu.
func (r *renewals) start(l *lane) {
	for l.senders+l.stuck < renewalSenders+maxStuck {
		left := len(l.waiting) - l.senders*renewalBatch
		if left <= 0 || l.isFull(left) || !r.set.Go(func() { r.send(l) }) {
			return
		}
		l.senders++
	}
}

// newLane makes the lane of a master of a cluster, or of the server. Where that is not known just now the client of the
// cluster finds out, and says why.
func (r *renewals) newLane(master *redis.Client) *lane {
	if r.cluster == nil || master != nil {
		moves := redisx.FollowsSentinel(r.client)
		client := redisx.Separate(r.client, master, renewalSenders+maxStuck, func(o *redis.Options) {
			o.MaxIdleConns, o.DisableIdentity = renewalSenders, true // which takes a round trip more
			o.PipelinePoolSize = -1                                  // one pool for all
			o.MaxRetries, o.DialerRetries = min(o.MaxRetries, 1), 1  // a renewal is repeated anyway, maybe on another client
			o.Dialer = r.untilClose(o.Dialer)
			if moves {
				o.ConnMaxLifetime, o.ConnMaxLifetimeJitter = masterLifetime, 0
			}
		})
		if client != nil {
			return &lane{client: client, own: true, moves: moves}
		}
	}
	return &lane{client: r.client}
}

// untilClose returns a dialer that gives up when close is called: go-redis opens connections in the background, for as long as
// its DialTimeout says.
func (r *renewals) untilClose(dial dialer) dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(r.ctx, cancel)()
		return dial(ctx, network, addr)
	}
}

// send is a goroutine that sends what waits in a lane, until there is nothing.
func (r *renewals) send(l *lane) {
	for work, late := r.take(l); len(work)+len(late) > 0; work, late = r.take(l) {
		for _, w := range late {
			w.done(Reply{Outcome: Failed, Err: errNotSent})
		}
		if len(work) > 0 {
			r.sendWork(l, work)
		}
	}
}

// sendWork sends renewals to a lane's server.
func (r *renewals) sendWork(l *lane, work []renewal) {
	d := r.depart(l, work)
	var failed []failure
	for i, client := range d.clients {
		var again []renewal
		for _, f := range r.sendTo(d.ctx, client, d.opening && i == 0, work) {
			// Where no connection can be opened, as the server has too many, no Sentinel answers, or the network drops what asks
			// for one, the application may have one. Where a slot has moved, or is moving, the client of the cluster follows it.
			another := f.err == errNotSent || //nolint:errorlint // our own
				d.opening && f.call.tries == nil || r.cluster != nil && redisx.IsReply(f.err)
			if another && i < len(d.clients)-1 && d.ctx.Err() == nil {
				again = append(again, f.renewal)
			} else {
				failed = append(failed, f)
			}
		}
		work = again
	}
	d.arrived() // before those that have failed are repeated, maybe by another sender
	for _, f := range failed {
		f.done(extended(0, f.err))
	}
}

// failure is a renewal that has failed.
type failure struct {
	renewal

	err error
}

// sendTo sends renewals. It calls done for those that have succeeded, and returns the others.
func (r *renewals) sendTo(
	ctx context.Context, client redis.UniversalClient, full bool, work []renewal,
) (failed []failure) {
	calls := make([]call, len(work))
	for i, w := range work {
		calls[i] = w.call
	}
	var mu sync.Mutex // guards failed
	r.pipeline(ctx, client, full, calls, func(i int, number int64, err error) {
		if err == nil {
			work[i].done(extended(number, nil))
			return
		}
		mu.Lock()
		defer mu.Unlock()
		failed = append(failed, failure{work[i], err})
	})
	return failed
}

// take returns what a sender is to send next, and what has waited for too long, as the server hangs. If there is neither
// the sender is to end.
func (r *renewals) take(l *lane) (work, late []renewal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.senders > 1 && l.onDetour() { // another one goes on
		l.senders--
		return nil, nil
	}
	n, now := 0, time.Now()
	for ; r.ctx.Err() == nil && n < len(l.waiting) && len(work) < renewalBatch; n++ {
		if w := l.waiting[n]; now.After(w.due) {
			late = append(late, w)
		} else {
			work = append(work, w)
		}
	}
	l.waiting = slices.Delete(l.waiting, 0, n)
	if n == 0 {
		l.senders--
	}
	return work, late
}

// prune ends the lanes of servers that have nothing to do, when there are more than a cluster has masters: addresses come
// and go. The caller holds mu.
func (r *renewals) prune() {
	if len(r.lanes) < maxLanes {
		return
	}
	for addr, l := range r.lanes {
		if l.senders+l.stuck == 0 && len(l.waiting) == 0 {
			l.close()
			delete(r.lanes, addr)
		}
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
