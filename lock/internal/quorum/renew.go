package quorum

import (
	"sync"
	"time"

	"github.com/compozy/cache/lock/internal/store"
)

// renewal is that of some locks on all servers.
type renewal struct {
	nodes  nodes
	claims []store.Claim
	done   func(int, store.Reply)

	mu      sync.Mutex    // guards what follows
	replies []store.Reply // by lock and server
	decided []store.Outcome
}

// Renew makes locks last for their TTLs from now. It returns at once, and calls done for each with its index when its
// fate is decided, from any goroutine. Where the majority confirms a lock done may be called again for it, with nothing but
// Repair.
func (q *Quorum) Renew(claims []store.Claim, timeout time.Duration, done func(i int, r store.Reply)) {
	r := &renewal{
		nodes: q.nodes, claims: claims, done: done,
		replies: make([]store.Reply, len(claims)*len(q.nodes)), decided: make([]store.Outcome, len(claims)),
	}
	for _, n := range q.nodes {
		n.Renew(claims, timeout, func(i int, reply store.Reply) { r.record(n, i, reply) })
	}
}

// record takes note of the reply of a server about a lock, and passes the lock's fate on once it is decided. Every reply that
// counts for the lock is that of a server which has made it last for its TTL.
func (r *renewal) record(n *node, i int, reply store.Reply) {
	r.mu.Lock()
	replies := r.replies[i*len(r.nodes) : (i+1)*len(r.nodes)]
	replies[n.index] = reply
	t := count(replies)
	var decision store.Reply
	switch {
	case r.decided[i] == store.Granted:
		if reply.Outcome == store.Absent || reply.Outcome == store.Unset {
			decision.Repair = r.nodes.repair(r.claims[i], []int{n.index})
		}
	case r.decided[i] != store.Pending:
	case t.granted >= r.nodes.majority():
		decision = store.Reply{Outcome: store.Granted, Repair: r.nodes.repair(r.claims[i], t.without)}
	default:
		decision = t.loss(r.nodes.minority())
		if decision.Outcome == store.Pending && t.pending == 0 {
			decision = store.Reply{Outcome: store.Failed, Err: t.err()}
		}
	}
	if decision.Outcome != store.Pending {
		r.decided[i] = decision.Outcome
	}
	r.mu.Unlock()
	if decision.Outcome != store.Pending || decision.Repair != nil {
		r.done(i, decision)
	}
}

// repair returns what sets a lock that the majority confirms on the servers with the given indexes, nil if there are none.
func (all nodes) repair(c store.Claim, indexes []int) func(done func()) {
	if len(indexes) == 0 {
		return nil
	}
	return func(done func()) {
		for _, i := range indexes {
			all[i].Repair(c, done)
		}
	}
}
