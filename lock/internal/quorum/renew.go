package quorum

import (
	"slices"
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
// fate is decided, from any goroutine. Where the majority confirms a lock, servers that say that they do not have it, or are
// not known to, are mended.
func (q *Quorum) Renew(claims []store.Claim, timeouts store.Timeouts, done func(i int, r store.Reply)) {
	r := &renewal{
		nodes: q.nodes, claims: claims, done: done,
		replies: make([]store.Reply, len(claims)*len(q.nodes)), decided: make([]store.Outcome, len(claims)),
	}
	for _, n := range q.nodes {
		n.Renew(claims, timeouts, func(i int, reply store.Reply) { r.record(n, i, reply) })
	}
}

// record takes note of the reply of a server about a lock, and passes the lock's fate on once it is decided. Every reply that
// counts for the lock is that of a server which has made it last for its TTL.
func (r *renewal) record(n *node, i int, reply store.Reply) {
	r.mu.Lock()
	replies := r.replies[i*len(r.nodes) : (i+1)*len(r.nodes)]
	replies[n.index] = reply
	t := count(replies)
	decided := r.decided[i]
	var decision store.Reply
	if decided == store.Pending {
		decision = t.decide(r.nodes)
		r.decided[i] = decision.Outcome
	}
	r.mu.Unlock()
	switch {
	case decision.Outcome == store.Granted:
		r.nodes.mend(r.claims[i], t.without)
	case decided == store.Granted && slices.Contains(t.without, n.index): // it was late
		r.nodes.mend(r.claims[i], []int{n.index})
	}
	if decision.Outcome != store.Pending {
		r.done(i, decision)
	}
}

// decide returns the fate of a lock after such replies to an extension, a pending reply if it is not decided.
func (t *tally) decide(all nodes) store.Reply {
	if t.granted >= all.majority() {
		return store.Reply{Outcome: store.Granted}
	}
	if t.pending == 0 {
		return t.failure(all.minority())
	}
	return t.loss(all.minority())
}

// mend gives a lock that the majority confirms to the servers with the given indexes.
func (all nodes) mend(c store.Claim, indexes []int) {
	for _, i := range indexes {
		all[i].Mend(c, time.Time{})
	}
}

// Mend makes a lock that the majority has confirmed last for its TTL on servers that are not known to have it until then,
// in the background.
func (q *Quorum) Mend(c store.Claim, until time.Time) {
	for _, n := range q.nodes {
		n.Mend(c, until)
	}
}
