package quorum

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/lock/internal/store"
)

const (
	// maxLate is how many calls a server may owe whose callers have gone on without them. Beyond it the server is not
	// asked: one that hangs costs a bounded number of goroutines.
	maxLate = 128
	// minSplitWait is how long servers that are late are waited for at least when the others could not decide.
	minSplitWait = 50 * time.Millisecond
)

var (
	errNoAnswer = errors.New("no answer in time")
	errBehind   = errors.New("not asked, as it is behind with its answers")
	errUnset    = errors.New("not known to have the lock")
	errNoTokens = errors.New("the fencing token was not accepted by a majority")
)

// vote is one question put to all servers. redsync asks them and counts. The vote outlives redsync's call, as a server
// that is late still answers.
type vote struct {
	nodes      nodes
	log        *zap.Logger
	stragglers *stragglers // where the vote is found until all have answered, nil if nobody looks for it
	name       string      // under which it is found there
	verb       verb
	claim      store.Claim
	ask        request
	waiter     string // the name of the waiter, "" if there is none
	start      time.Time

	// ctx bounds the calls to all servers. It ends with the deadline of the caller's context, and with that context as
	// long as the vote has not ended: afterwards a server that is late has its full time.
	ctx    context.Context
	cancel context.CancelFunc
	detach func() bool

	mu       sync.Mutex // guards what follows
	replies  []store.Reply
	answered []chan struct{} // closed when the reply is there
	open     int             // replies that are missing, and the caller
	panicked error           // in a hook of a client, until the caller raises it
	split    bool            // a majority has answered, and not decided
	over     bool            // the caller has gone on
	won      bool            // the lock was acquired
	unwanted bool            // what is granted from now on has to be taken back
}

// verb is what is asked.
type verb uint8

const (
	acquiring verb = iota
	releasing
	extending
)

// request asks one server.
type request func(ctx context.Context, n *node) store.Reply

// newVote prepares a question. ctx has a deadline. The caller calls end in the end.
func newVote(ctx context.Context, q *Quorum, verb verb, c store.Claim, ask request) *vote {
	v := &vote{
		nodes: q.nodes, log: q.log, verb: verb, claim: c, ask: ask, start: time.Now(),
		replies: make([]store.Reply, len(q.nodes)), answered: make([]chan struct{}, len(q.nodes)), open: len(q.nodes) + 1,
	}
	for i := range v.answered {
		v.answered[i] = make(chan struct{})
	}
	deadline, _ := ctx.Deadline()
	v.ctx, v.cancel = context.WithDeadline(context.WithoutCancel(ctx), deadline)
	v.detach = context.AfterFunc(ctx, v.cancel)
	return v
}

// put puts the question to one server and takes note of the reply.
func (v *vote) put(n *node) (r store.Reply) {
	r = store.Reply{Outcome: store.Failed, Err: errNoAnswer}
	defer func() { v.record(n, r) }()
	if n.debt.isFull() {
		r.Err = errBehind
		return r
	}
	if err := redisx.Apart(func() error { r = v.ask(v.ctx, n); return nil }); err != nil {
		v.caught(err)
		r.Err = err
	}
	return r
}

// caught takes note of a panic, for the caller to raise.
func (v *vote) caught(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.panicked = err
	if v.over {
		v.logPanic()
	}
}

// raisePanic raises a panic that was caught.
func (v *vote) raisePanic() {
	v.mu.Lock()
	err := v.panicked
	v.panicked = nil
	v.mu.Unlock()
	redisx.Raise(err)
}

// logPanic logs a panic for which the caller has not waited. The caller holds mu.
func (v *vote) logPanic() {
	if v.panicked != nil {
		v.log.Error("lock: a hook of a client has panicked", zap.String("key", v.claim.Keys.Lock()), zap.Error(v.panicked))
	}
}

func (v *vote) record(n *node, r store.Reply) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.replies[n.index] = r
	close(v.answered[n.index])
	n.debt.settle(v.over, r.Outcome != store.Failed && r.Outcome != store.Unset) // which was not sent
	if v.over {
		v.reap(n, r)
	} else {
		v.endIfHopeless()
		v.endSplit()
	}
	v.leave()
}

// endIfHopeless ends the waiting for the others when so many servers have failed that no majority can answer. The caller
// holds mu.
func (v *vote) endIfHopeless() {
	if count(v.replies).failed > v.nodes.minority() {
		v.cancel()
	}
}

// leave ends the vote with the last one who needs it. The caller holds mu.
func (v *vote) leave() {
	if v.open--; v.open > 0 {
		return
	}
	v.cancel()
	if v.stragglers != nil {
		v.stragglers.remove(v)
	}
}

// await waits until a server has answered, or ctx ends. A nil vote is through.
func (v *vote) await(ctx context.Context, n *node) {
	if v == nil {
		return
	}
	select {
	case <-v.answered[n.index]:
	case <-ctx.Done():
	}
}

// endSplit ends the waiting for servers that are down where the others are split between several who acquire: they all
// would wait until the deadline, each for the server that could make its majority. The late have as long again as the
// majority took, but at least minSplitWait, less the time for which they have owed an answer to votes that were decided
// without them: as long as there are such, what is down costs nothing here. Otherwise it costs that each vote, as one that
// gives up waits for no answer any more. The caller holds mu.
func (v *vote) endSplit() {
	t := count(v.replies)
	majority := v.nodes.majority()
	if v.verb != acquiring || v.split || t.pending == 0 ||
		t.granted >= majority || t.refused >= majority || t.granted+t.refused < majority {
		return
	}
	v.split = true
	most := max(time.Since(v.start), minSplitWait)
	left := time.Duration(0)
	for i, r := range v.replies {
		if r.Outcome == store.Pending {
			left = max(left, most-v.nodes[i].debt.silence())
		}
	}
	if left == 0 {
		v.cancel()
		return
	}
	time.AfterFunc(left, v.endIfSplit)
}

// endIfSplit is called when the late have had their time. If they have made a majority, that may be settling the token.
func (v *vote) endIfSplit() {
	if v.tally().granted < v.nodes.majority() {
		v.cancel()
	}
}

// end is called when the caller goes on. Unless the outcome is wanted, what was granted, or may have been, is taken back.
func (v *vote) end(wanted bool) {
	v.detach()
	if !wanted {
		v.cancel()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.over, v.won, v.unwanted = true, v.verb == acquiring && wanted, !wanted
	v.logPanic()
	if v.stragglers != nil && wanted && v.open > 1 {
		v.stragglers.add(v)
	}
	for i, r := range v.replies {
		if r.Outcome == store.Pending {
			v.nodes[i].debt.add()
		} else {
			v.reap(v.nodes[i], r)
		}
	}
	v.leave()
}

// reap removes in the background what a server may have and should not: a lock, or the place in its queue of a waiter who
// has got the lock from the others. Whatever the reply, a try before it may be on its way still. The caller holds mu.
func (v *vote) reap(n *node, r store.Reply) {
	stray := v.claim.Tries[n.index].Stray()
	if v.won && v.waiter != "" && (r.Outcome == store.Failed || r.Outcome == store.Refused) {
		n.Leave(v.claim.Keys, v.waiter)
	}
	switch {
	case v.verb == acquiring && v.unwanted && r.Outcome == store.Granted && count(v.replies).refused > 0:
		n.Reap(v.claim, store.Split)
	case v.verb == acquiring && v.unwanted && (r.Outcome == store.Granted || stray),
		v.verb == releasing && (r.Outcome == store.Failed || stray):
		n.Reap(v.claim, store.Unwanted)
	}
}

// tally returns what the replies so far add up to.
func (v *vote) tally() tally {
	v.mu.Lock()
	defer v.mu.Unlock()
	return count(v.replies)
}

// refusal says why there was no majority. Where one has answered the servers work, and somebody else is there, though
// perhaps without a majority as well.
func (v *vote) refusal() store.Reply {
	t := v.tally()
	if t.refused > 0 && t.granted+t.refused >= v.nodes.majority() {
		return store.Reply{
			Outcome: store.Refused, Wait: t.wait, Ahead: t.ahead, Arrival: t.arrival, Split: t.granted > 0,
		}
	}
	return store.Reply{Outcome: store.Failed, Err: t.err()}
}

// unsettled says why a majority that granted did not settle the token: it came when the time of the late was over, and what
// the others had answered stands, or servers failed.
func (v *vote) unsettled() store.Reply {
	v.mu.Lock()
	split := v.split
	v.mu.Unlock()
	if split {
		return v.refusal()
	}
	return store.Reply{Outcome: store.Failed, Err: errNoTokens}
}

// agree settles the token of a lock that a majority has granted: the largest that one of them gave, stored on a majority
// before anybody sees it. Every later majority then contains a server that counts on from it.
//
// Most often they agree already. If not, the token is written back, but only where the lock is still ours: elsewhere
// another holder may have been given a larger one, or the same.
func (v *vote) agree(spawn func(func()) bool) (token int64, ok bool) {
	v.mu.Lock()
	replies := slices.Clone(v.replies)
	v.mu.Unlock()
	t := count(replies)
	if t.stored >= v.nodes.majority() {
		return t.token, true
	}
	c := v.claim
	c.Token = t.token
	accepted := make(chan bool, len(replies))
	asked := 0
	for i, r := range replies {
		if r.Outcome == store.Granted && r.Token < c.Token || r.Outcome == store.Pending {
			asked++
			n := v.nodes[i]
			if !spawn(func() { accepted <- v.raise(n, c) }) {
				accepted <- false
			}
		}
	}
	for stored := t.stored; asked > 0; asked-- {
		if <-accepted {
			if stored++; stored >= v.nodes.majority() {
				return c.Token, true
			}
		}
	}
	return 0, false
}

// raise makes a server accept the token, once it has granted the lock.
func (v *vote) raise(n *node, c store.Claim) bool {
	v.await(v.ctx, n)
	v.mu.Lock()
	r := v.replies[n.index]
	v.mu.Unlock()
	if r.Outcome != store.Granted || r.Token >= c.Token {
		return r.Outcome == store.Granted
	}
	raised := false
	if err := redisx.Apart(func() error { raised = n.Raise(v.ctx, c); return nil }); err != nil {
		v.caught(err)
	}
	return raised
}

// stragglers is votes whose callers have gone on though servers have not answered yet, the last one of each name.
type stragglers struct {
	mu    sync.Mutex // guards votes
	votes map[string]*vote
}

func newStragglers() *stragglers { return &stragglers{votes: make(map[string]*vote)} }

func (s *stragglers) add(v *vote) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.votes[v.name] = v
}

func (s *stragglers) remove(v *vote) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.votes[v.name] == v {
		delete(s.votes, v.name)
	}
}

// of returns the vote of a name, nil if all have answered it.
func (s *stragglers) of(name string) *vote {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.votes[name]
}

// end returns the vote that acquired a lock, as of does, and has what is still granted to it taken back.
func (s *stragglers) end(c store.Claim) *vote {
	v := s.of(c.Value)
	if v != nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.unwanted = true
	}
	return v
}
