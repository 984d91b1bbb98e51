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
	late    bool // all servers have had the time that an answer on an open connection takes
}

// Renew makes locks last for their TTLs from now. It returns at once, and calls done for each with its index when its
// fate is decided, from any goroutine. Where the majority confirms a lock, servers that say that they do not have it, or are
// not known to, are mended.
//
// A server that is down is late with its failure, as a connection to it has to be opened first. When another one has failed
// that is not waited for: done gets a failure, and is called again should the majority answer after all.
func (q *Quorum) Renew(claims []store.Claim, timeouts store.Timeouts, done func(i int, r store.Reply)) {
	r := &renewal{
		nodes: q.nodes, claims: claims, done: done,
		replies: make([]store.Reply, len(claims)*len(q.nodes)), decided: make([]store.Outcome, len(claims)),
	}
	time.AfterFunc(timeouts.Open, r.becomeLate)
	for _, n := range q.nodes {
		n.Renew(claims, timeouts, func(i int, reply store.Reply) { r.record(n, i, reply) })
	}
}

// about returns the replies about a lock. The caller holds mu.
func (r *renewal) about(i int) []store.Reply { return r.replies[i*len(r.nodes) : (i+1)*len(r.nodes)] }

// record takes note of the reply of a server about a lock. Every reply that counts for the lock is that of a server which
// has made it last for its TTL.
func (r *renewal) record(n *node, i int, reply store.Reply) {
	r.mu.Lock()
	r.about(i)[n.index] = reply
	granted := r.decided[i] == store.Granted
	r.mu.Unlock()
	switch {
	case !granted:
		r.decide(i)
	case reply.Outcome == store.Absent, reply.Outcome == store.Unset: // it was late
		r.nodes.mend(r.claims[i], []int{n.index})
	}
}

// becomeLate is called when the time of an answer on an open connection is over.
func (r *renewal) becomeLate() {
	r.mu.Lock()
	r.late = true
	r.mu.Unlock()
	for i := range r.claims {
		r.decide(i)
	}
}

// decide passes the fate of a lock on if it is decided now. Only a failure is no last word.
func (r *renewal) decide(i int) {
	r.mu.Lock()
	decided, t := r.decided[i], count(r.about(i))
	decision := t.decide(r.nodes, r.late)
	if decided != store.Pending && decided != store.Failed || decision.Outcome == decided {
		decision = store.Reply{}
	}
	if decision.Outcome != store.Pending {
		r.decided[i] = decision.Outcome
	}
	r.mu.Unlock()
	if decision.Outcome == store.Granted {
		r.nodes.mend(r.claims[i], t.without)
	}
	if decision.Outcome != store.Pending {
		r.done(i, decision)
	}
}

// decide returns the fate of a lock after such replies to an extension, a pending reply if it is not decided. Where it is
// late, and one server has failed, the others are not waited for.
func (t *tally) decide(all nodes, late bool) store.Reply {
	if t.granted >= all.majority() {
		return store.Reply{Outcome: store.Granted}
	}
	if t.pending == 0 || late && t.failed > 0 {
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
