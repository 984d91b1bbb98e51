package quorum

import (
	"sync"
	"time"

	"github.com/compozy/cache/lock/internal/store"
)

// Renew makes locks last for their TTLs from now. It returns at once, and calls done for each with its index when its
// fate is decided, from any goroutine. Servers that do not have a lock which the majority confirms get it back, as long as
// for a first grant; done is called again then, if it was before, with nothing but Repaired.
func (q *Quorum) Renew(claims []store.Claim, timeout time.Duration, done func(i int, r store.Reply)) {
	r := &renewal{
		quorum: q, claims: claims, done: done,
		replies: make([]store.Reply, len(claims)*len(q.nodes)), decided: make([]store.Outcome, len(claims)),
	}
	for _, n := range q.nodes {
		n.Renew(claims, timeout, func(i int, reply store.Reply) { r.record(n, i, reply) })
	}
}

// renewal is that of some locks on all servers.
type renewal struct {
	quorum *Quorum
	claims []store.Claim
	done   func(int, store.Reply)

	mu      sync.Mutex    // guards what follows
	replies []store.Reply // by lock and server
	decided []store.Outcome
}

// record takes note of the reply of a server about a lock, and tells the lock's fate once it is decided.
func (r *renewal) record(n *node, i int, reply store.Reply) {
	nodes := len(r.quorum.nodes)
	r.mu.Lock()
	replies := r.replies[i*nodes : (i+1)*nodes]
	replies[n.index] = reply
	t := count(replies)
	var absent []*node
	decision := store.Reply{}
	switch {
	case r.decided[i] == store.Granted:
		if reply.Outcome == store.Absent {
			absent = append(absent, n)
		}
	case r.decided[i] != store.Pending:
	case t.granted >= r.quorum.majority():
		decision.Outcome = store.Granted
		for k, other := range replies {
			if other.Outcome == store.Absent {
				absent = append(absent, r.quorum.nodes[k])
			}
		}
	default:
		decision = t.loss(nodes - r.quorum.majority())
		if decision.Outcome == store.Pending && t.pending == 0 {
			decision = store.Reply{Outcome: store.Failed, Err: t.err()}
		}
	}
	if decision.Outcome != store.Pending {
		r.decided[i] = decision.Outcome
	}
	r.mu.Unlock()

	if decision.Repaired = len(absent) > 0; decision.Repaired || decision.Outcome != store.Pending {
		r.done(i, decision)
	}
	for _, other := range absent {
		other.Repair(r.claims[i : i+1])
	}
}
