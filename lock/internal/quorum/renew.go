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
// fate is decided, from any goroutine. Servers that do not have a lock which the majority confirms get it back, as long as
// for a first grant; done is called again then, if it was before, with nothing but Repaired and Sure.
func (q *Quorum) Renew(claims []store.Claim, timeout time.Duration, done func(i int, r store.Reply)) {
	r := &renewal{
		nodes: q.nodes, claims: claims, done: done,
		replies: make([]store.Reply, len(claims)*len(q.nodes)), decided: make([]store.Outcome, len(claims)),
	}
	for _, n := range q.nodes {
		cautious := make([]store.Claim, len(claims))
		for i, c := range claims {
			cautious[i] = n.cautious(c)
		}
		n.Renew(cautious, timeout, func(i int, reply store.Reply) { r.record(n, i, reply) })
	}
}

// cautious returns a lock as it is extended on a server. One that is not known to have it may set it late, after the
// release, and be late with this as well: that must not last for the full TTL.
func (n *node) cautious(c store.Claim) store.Claim {
	if !n.surelyHas(c) {
		c.TTL = min(c.TTL, store.FirstGrant)
	}
	return c
}

// surelyHas reports whether a server is known to have set a lock.
func (n *node) surelyHas(c store.Claim) bool { return c.Sure&n.bit() != 0 }

// bit is the server's in Claim.Sure.
func (n *node) bit() uint64 { return 1 << n.index }

// record takes note of the reply of a server about a lock, and tells the lock's fate once it is decided.
func (r *renewal) record(n *node, i int, reply store.Reply) {
	nodes := len(r.nodes)
	r.mu.Lock()
	replies := r.replies[i*nodes : (i+1)*nodes]
	replies[n.index] = reply
	t := count(replies)
	var absent []*node
	decision := store.Reply{}
	switch {
	case r.decided[i] == store.Granted:
		absent = r.settle(&decision, i, n, reply)
	case r.decided[i] != store.Pending:
	case t.granted >= r.nodes.majority():
		decision.Outcome = store.Granted
		for k, other := range replies {
			absent = append(absent, r.settle(&decision, i, r.nodes[k], other)...)
		}
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

	if decision.Repaired || decision.Outcome != store.Pending {
		r.done(i, decision)
	}
	for _, other := range absent {
		other.Repair(r.claims[i : i+1])
	}
}

// settle adds to a decision what a server has said of a lock that the majority confirms, and returns the server if it
// does not have the lock. Where it has had it for a first grant only, the lock is to be renewed as soon as after one.
func (r *renewal) settle(decision *store.Reply, i int, n *node, reply store.Reply) (absent []*node) {
	switch {
	case reply.Outcome == store.Absent:
		decision.Repaired = true
		return []*node{n}
	case reply.Outcome == store.Granted && !n.surelyHas(r.claims[i]):
		decision.Repaired = true
		decision.Sure |= n.bit()
	}
	return nil
}
