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
func (n *node) surelyHas(c store.Claim) bool { return c.Sure&(1<<n.index) != 0 }

// record takes note of the reply of a server about a lock, and passes the lock's fate on once it is decided.
func (r *renewal) record(n *node, i int, reply store.Reply) {
	r.mu.Lock()
	replies := r.replies[i*len(r.nodes) : (i+1)*len(r.nodes)]
	replies[n.index] = reply
	t := count(replies)
	decision := store.Reply{}
	var confirmed, absent nodes // servers whose lock the majority confirms, and those of them that do not have it
	switch {
	case r.decided[i] == store.Granted:
		confirmed = nodes{n}
	case r.decided[i] != store.Pending:
	case t.granted >= r.nodes.majority():
		decision.Outcome = store.Granted
		confirmed = r.nodes
	default:
		decision = t.loss(r.nodes.minority())
		if decision.Outcome == store.Pending && t.pending == 0 {
			decision = store.Reply{Outcome: store.Failed, Err: t.err()}
		}
	}
	if decision.Outcome != store.Pending {
		r.decided[i] = decision.Outcome
	}
	for _, other := range confirmed {
		switch outcome := replies[other.index].Outcome; {
		case outcome == store.Absent:
			decision.Repaired = true
			absent = append(absent, other)
		case outcome == store.Granted && !other.surelyHas(r.claims[i]): // it has it for a first grant only
			decision.Repaired = true
			decision.Sure |= 1 << other.index
		}
	}
	r.mu.Unlock()

	if decision.Repaired || decision.Outcome != store.Pending {
		r.done(i, decision)
	}
	for _, other := range absent {
		other.Repair(r.claims[i])
	}
}
