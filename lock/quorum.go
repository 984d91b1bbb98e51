package lock

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/go-redsync/redsync/v4"
)

// minHurry is how long nodes that are late are waited for at least when the others could not decide.
const minHurry = 50 * time.Millisecond

// round is one question put to all nodes, through redsync, which counts the answers. It travels to the nodes in the
// context and outlives redsync's call: a node that is late still answers into it.
type round struct {
	manager *RedisLockManager
	verb    verb
	keys    keys
	value   string
	ttl     time.Duration
	name    string // of the waiter in the queues, if the nodes are to queue it
	call    caller

	// ctx bounds the calls to all nodes: it ends after the node timeout, with the caller's interest, and with what
	// endsWith was given. redsync's own context does not bound them: it ends with the quorum's decision, and the late
	// nodes are to get the lock too.
	ctx    context.Context
	cancel context.CancelFunc
	start  time.Time

	mu    sync.Mutex // guards what follows
	open  int        // calls under way, and the caller; with the last one ctx ends
	stops []func() bool
	split bool // a majority has answered, and not decided
	votes []vote
	only  [1]vote // what votes points to on a single node
	// over says that the lock is not wanted any more: whoever grants it now has to take it back.
	over bool
	// acquired is what the nodes had answered to who releases a lock now.
	acquired []vote
	// leaving says that the waiter is not to stay in any queue either.
	leaving bool
}

// verb is what a round asks for.
type verb uint8

const (
	acquiring verb = iota
	releasing
	extending
)

// caller is how a node is asked in a round; the verbs differ in it.
type caller func(r *round, n *node) vote

// roundKey finds the round in a context.
type roundKey struct{}

// newRound prepares a question; start is now, or just before. It ends with ctx. The caller calls done in the end.
func (m *RedisLockManager) newRound(
	ctx context.Context, start time.Time, v verb, k keys, value string, ttl time.Duration, call caller,
) *round {
	r := &round{manager: m, verb: v, keys: k, value: value, ttl: ttl, call: call, start: start, open: 1}
	if r.votes = r.only[:]; len(m.nodes) > 1 {
		r.votes = make([]vote, len(m.nodes))
	}
	timeout := m.set.timeout(ttl)
	if v == releasing {
		timeout = m.set.releaseTimeout()
	}
	r.ctx, r.cancel = context.WithDeadline(ctx, start.Add(timeout))
	return r
}

// endsWith makes the question end with another context as well.
func (r *round) endsWith(ctx context.Context) {
	r.stops = append(r.stops, context.AfterFunc(ctx, r.cancel))
}

// done is called when the caller, or a call to a node, is through. With the last of them the context ends, and takes its
// timer along.
func (r *round) done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open--; r.open > 0 {
		return
	}
	for _, stop := range r.stops {
		stop()
	}
	r.stops = nil
	r.cancel()
}

// ended returns why there is no point in asking any further, nil if there is.
func (r *round) ended() error {
	if r.ctx.Err() != nil {
		return r.ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return errGivenUp // the others have decided already
	}
	return nil
}

// context returns what redsync is called with.
func (r *round) context() context.Context {
	return context.WithValue(context.WithoutCancel(r.ctx), roundKey{}, r)
}

// decide puts the question to all nodes, through redsync, and reports whether a majority did what was asked. A single
// node needs no counting.
func (r *round) decide(count func(*redsync.Mutex) error) error {
	r.mu.Lock()
	r.open += len(r.votes)
	r.mu.Unlock()
	if len(r.manager.nodes) > 1 {
		return count(r.manager.newMutex(r.keys, r.value, r.ttl))
	}
	if v := r.ask(r.manager.nodes[0]); v.outcome != granted {
		return errNoMajority
	}
	return nil
}

// ask puts the question to one node and records its answer.
func (r *round) ask(n *node) vote {
	v := vote{outcome: failed, err: errNoAnswer}
	defer r.done()
	defer func() { r.record(n, v) }() // also if a hook of the client panics
	v = r.call(r, n)
	return v
}

func (r *round) record(n *node, v vote) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.votes[n.index].outcome
	r.votes[n.index] = v
	if r.over {
		r.takeBack(n, v)
		if was == pending {
			r.manager.leftovers.settle(n, r.keys, r.value)
		}
	} else {
		r.hurryUp()
	}
}

// hurryUp ends the waiting for nodes that are down where the others are split between several who acquire: they all
// would wait until the deadline, each for the node that could make its majority. The late have as long again as the
// majority took, but at least minHurry. The caller holds mu.
func (r *round) hurryUp() {
	if r.verb != acquiring || r.split || len(r.votes) == 1 {
		return
	}
	t := count(r.votes)
	quorum := r.manager.quorum()
	if t.granted >= quorum || t.granted+t.refused < quorum || t.granted+t.refused+t.failed == len(r.votes) {
		return
	}
	r.split = true
	time.AfterFunc(max(time.Since(r.start), minHurry), r.cancel)
}

// answeredLate is called when a command has come to its end whose caller had left: its fate was unknown then, so
// whatever it has done can be taken back for certain only now.
func (r *round) answeredLate(n *node) { r.record(n, vote{outcome: failed, err: errNoAnswer}) }

// discard ends the interest in the lock: nodes that granted it, may have, or will yet, get it taken back.
func (r *round) discard() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.end()
	for i, v := range r.votes {
		r.takeBack(r.manager.nodes[i], v)
	}
}

// end takes note that the value is given up. The caller holds mu.
func (r *round) end() {
	r.over = true
	for i, v := range r.votes {
		if v.outcome == pending {
			r.manager.leftovers.add(r.manager.nodes[i], r.keys, r.value)
		}
	}
}

// leave ends the interest in a place in the queues too, if there is one. It comes after discard.
func (r *round) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.name == "" {
		return
	}
	r.leaving = true
	for i, v := range r.votes {
		if v.outcome != pending {
			r.leaveQueue(r.manager.nodes[i])
		}
	}
}

// finish ends the interest in nodes that have not answered yet; the others are seen to by the caller.
func (r *round) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.end()
	}
}

// finishRelease ends the interest in nodes of which the caller need not hear any more, as a majority has released what
// the round acquired had got. Those that fail to, and had granted it or may have, are seen to in the background.
func (r *round) finishRelease(acquired *round) {
	votes := acquired.snapshot()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acquired = votes
	r.end()
	for i, v := range r.votes {
		r.takeBack(r.manager.nodes[i], v)
	}
}

// takeBack hands a key that a node may have to the janitor: a refusal may be the answer to a repetition, and the attempt
// before it be under way still. The caller holds mu.
func (r *round) takeBack(n *node, v vote) {
	mayHave := v.outcome == granted || v.outcome == failed || v.repeated
	if r.verb == releasing {
		had := r.acquired[n.index].outcome
		mayHave = v.outcome == failed && (had == granted || had == failed)
	}
	if mayHave {
		r.manager.janitor.add(debris{
			node: n, keys: r.keys, value: r.value, queued: r.name == r.value,
			uncertain: r.verb == acquiring && (v.outcome == failed || v.repeated), until: time.Now().Add(cleanupTime(r.ttl)),
		})
	}
	if r.leaving && v.outcome != pending {
		r.leaveQueue(n)
	}
}

// leaveQueue has the janitor take the waiter off a node's queue. The caller holds mu.
func (r *round) leaveQueue(n *node) {
	r.manager.janitor.add(debris{
		node: n, keys: r.keys, value: r.name, queued: true, until: time.Now().Add(cleanupTime(liveness)),
	})
}

// snapshot returns the answers so far.
func (r *round) snapshot() []vote {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.votes)
}

// tally returns what the answers so far add up to.
func (r *round) tally() tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	return count(r.votes)
}

// quorum is how many nodes have to agree.
func (m *RedisLockManager) quorum() int { return len(m.nodes)/2 + 1 }
