package quorum

import (
	"sync"
	"time"

	"github.com/compozy/cache/lock/internal/store"
)

// renewal is that of some locks on all servers.
type renewal struct {
	quorum *Quorum
	claims []store.Claim
	done   func(int, store.Reply)

	mu      sync.Mutex    // guards what follows
	replies []store.Reply // by lock and server
	decided []store.Outcome
}

// Renew makes locks last for their TTLs from now. It returns at once, and calls done for each with its index when its
// fate is decided, from any goroutine. Servers that do not have a lock which the majority confirms get it back, as long as
// for a first grant; done is called again then, if it was before, with nothing but Repaired.
func (q *Quorum) Renew(claims []store.Claim, timeout time.Duration, done func(i int, r store.Reply)) {
	r := &renewal{
		quorum: q, claims: claims, done: done,
		replies: make([]store.Reply, len(claims)*len(q.nodes)), decided: make([]store.Outcome, len(claims)),
	}
	owed := q.owed(claims)
	for _, n := range q.nodes {
		asked, indexes := claims, []int(nil)
		if len(owed) > 0 {
			asked, indexes = r.without(n, owed)
		}
		n.Renew(asked, timeout, func(i int, reply store.Reply) {
			if indexes != nil {
				i = indexes[i]
			}
			r.record(n, i, reply)
		})
	}
}

// owed returns the votes that have acquired locks and still miss answers, by the index of the lock; most often none.
func (q *Quorum) owed(claims []store.Claim) map[int]*vote {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.stragglers) == 0 {
		return nil
	}
	owed := make(map[int]*vote)
	for i, c := range claims {
		if v := q.stragglers[c.Value]; v != nil {
			owed[i] = v
		}
	}
	return owed
}

// without returns the locks for which a server does not owe an answer, and their indexes. It must not be asked to extend
// the others: should it set such a lock late, after the release, it would last for the full TTL then.
func (r *renewal) without(n *node, owed map[int]*vote) (asked []store.Claim, indexes []int) {
	indexes = make([]int, 0, len(r.claims))
	for i, c := range r.claims {
		if v := owed[i]; v != nil && v.misses(n) {
			r.record(n, i, store.Reply{Outcome: store.Failed, Err: errBehind})
			continue
		}
		asked, indexes = append(asked, c), append(indexes, i)
	}
	return asked, indexes
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
