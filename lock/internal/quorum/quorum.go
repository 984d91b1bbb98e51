package quorum

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/lock/internal/store"
)

// Quorum keeps locks on several servers. It is safe for concurrent use.
type Quorum struct {
	nodes    nodes
	spawn    func(func()) bool // starts a goroutine, and reports false if none may be started any more
	log      *zap.Logger       // of panics that nobody waits for
	acquired *stragglers       // by the lock's value
	released *stragglers       // by the lock's key
}

// nodes is the servers.
type nodes []*node

// node is one of the servers.
type node struct {
	*store.Redis

	index int
	debt  debt
}

// New returns a Quorum of servers.
func New(servers []*store.Redis, spawn func(func()) bool, log *zap.Logger) *Quorum {
	q := &Quorum{spawn: spawn, log: log, acquired: newStragglers(), released: newStragglers()}
	for i, s := range servers {
		q.nodes = append(q.nodes, &node{Redis: s, index: i})
	}
	return q
}

// majority is how many servers have to agree, and minority how many may be missing.
func (all nodes) majority() int { return len(all)/2 + 1 }
func (all nodes) minority() int { return len(all) - all.majority() }

// each does something with all servers at the same time, and returns when all of that is done.
func (all nodes) each(do func(n *node)) {
	var group sync.WaitGroup
	for _, n := range all {
		group.Go(func() { do(n) })
	}
	group.Wait()
}

// Acquire takes the lock if a majority grants it. Unless it does nothing is left behind.
func (q *Quorum) Acquire(ctx context.Context, c store.Claim) store.Reply {
	return q.acquire(ctx, c, "", func(ctx context.Context, n *node) store.Reply { return n.Acquire(ctx, c) })
}

// Enqueue is Acquire for one who waits: servers that do not grant the lock queue it.
func (q *Quorum) Enqueue(ctx context.Context, c store.Claim, w store.Waiter) store.Reply {
	return q.acquire(ctx, c, w.Name, func(ctx context.Context, n *node) store.Reply { return n.Enqueue(ctx, c, w) })
}

func (q *Quorum) acquire(ctx context.Context, c store.Claim, waiter string, ask request) store.Reply {
	released := q.released.of(c.Keys.Lock())
	v := newVote(ctx, q, acquiring, c, func(ctx context.Context, n *node) store.Reply {
		released.await(ctx, n) // or we might be refused for a lock that is ours, and released
		return ask(ctx, n)
	})
	v.waiter, v.stragglers, v.name = waiter, q.acquired, c.Value
	granted := false
	defer func() { v.end(granted) }() // also if a hook of a client panics
	err := v.mutex().TryLock()
	v.raisePanic()
	if err != nil {
		return v.refusal()
	}
	token, ok := v.agree(q.spawn)
	v.raisePanic()
	if !ok {
		return v.unsettled()
	}
	granted = true
	return store.Reply{Outcome: store.Granted, Token: token}
}

// end says that nobody wants a lock any more, before it is taken back: whatever is still granted to it from here on is taken
// back as well. It returns the vote that acquired the lock, nil if all servers have answered.
func (q *Quorum) end(c store.Claim) *vote {
	c.End()
	return q.acquired.end(c)
}

// Release frees the lock and lets waiters know. On servers that fail to it is removed in the background.
func (q *Quorum) Release(ctx context.Context, c store.Claim) store.Reply {
	acquired := q.end(c)
	v := newVote(ctx, q, releasing, c, func(ctx context.Context, n *node) store.Reply {
		acquired.await(ctx, n) // or the lock might be set after it was released
		return n.Release(ctx, c)
	})
	v.stragglers, v.name = q.released, c.Keys.Lock()
	defer v.end(true)
	ok, _ := v.mutex().Unlock() // the votes say more than redsync's error
	v.raisePanic()
	t := v.tally()
	if ok {
		return store.Reply{Outcome: store.Granted, PassedOn: t.passedOn}
	}
	return t.failure(q.nodes.minority())
}

// ReleaseAll releases locks in pipelines, and calls done for each with its index when a majority has released it, or
// cannot any more. When all are decided servers that are late are left to the background.
func (q *Quorum) ReleaseAll(ctx context.Context, claims []store.Claim, done func(i int, r store.Reply)) {
	for _, c := range claims {
		q.end(c)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // guards what follows
	decided, lost, released, failed := 0, false, make([]int, len(claims)), make([]int, len(claims))
	q.nodes.each(func(n *node) {
		n.ReleaseAll(ctx, claims, func(i int, r store.Reply) {
			mu.Lock()
			defer mu.Unlock()
			votes, decisive := &released[i], q.nodes.majority()
			if r.Outcome == store.Failed {
				votes, decisive = &failed[i], q.nodes.minority()+1
			}
			if *votes++; *votes != decisive {
				return
			}
			done(i, r)
			lost = lost || r.Outcome == store.Failed
			if decided++; decided == len(claims) && !lost { // otherwise the other servers are to do what they can
				cancel()
			}
		})
	})
}

// Refresh makes a lock last for its TTL from now.
func (q *Quorum) Refresh(ctx context.Context, c store.Claim) store.Reply {
	acquired := q.acquired.of(c.Value)
	v := newVote(ctx, q, extending, c, func(ctx context.Context, n *node) store.Reply {
		acquired.await(ctx, n) // it may be about to have the lock
		return n.Refresh(ctx, c)
	})
	defer v.end(true)
	ok, _ := v.mutex().Extend()
	v.raisePanic()
	t := v.tally()
	if ok {
		q.nodes.mend(c, t.without)
		return store.Reply{Outcome: store.Granted}
	}
	return t.failure(q.nodes.minority())
}

// Inspect describes a lock as a majority sees it. Nobody holds one of which a majority does not say the same, though all
// servers have had the time to answer.
func (q *Quorum) Inspect(ctx context.Context, k store.Keys) (store.State, error) {
	ask := func(ctx context.Context, n *node) (store.State, error) { return n.Inspect(ctx, k) }
	states, err := most(ctx, q, ask, func(states []store.State) bool {
		_, agreed := q.nodes.view(states)
		return agreed
	})
	whole, _ := q.nodes.view(states)
	return whole, err
}

// view returns what some servers say of a lock, and whether a majority says the same of its holder.
func (all nodes) view(states []store.State) (whole store.State, agreed bool) {
	free, holders := 0, make(map[string]int, 1)
	for _, s := range states {
		whole.Waiting, whole.Token = max(whole.Waiting, s.Waiting), max(whole.Token, s.Token)
		if !s.Held {
			free++
			continue
		}
		if holders[s.Value]++; holders[s.Value] >= all.majority() {
			whole.Held, whole.Value, whole.TTL = true, s.Value, s.TTL
		}
	}
	return whole, whole.Held || free >= all.majority()
}

// Ping reports whether a majority answers.
func (q *Quorum) Ping(ctx context.Context) error {
	ask := func(ctx context.Context, n *node) (struct{}, error) { return struct{}{}, n.Ping(ctx) }
	_, err := most(ctx, q, ask, func([]struct{}) bool { return true })
	return err
}

// most asks all servers, and returns the answers of the first that make a majority and are enough, those of all that answer
// before ctx ends if they are not, or why there is no majority.
func most[T any](
	ctx context.Context, q *Quorum, ask func(context.Context, *node) (T, error), enough func([]T) bool,
) ([]T, error) {
	type result struct {
		answer T
		err    error
	}
	results := make(chan result, len(q.nodes))
	for _, n := range q.nodes {
		if !q.spawn(func() {
			var answer T
			err := redisx.Apart(func() (err error) {
				answer, err = ask(ctx, n)
				return err
			})
			if err != nil {
				err = fmt.Errorf("node %d: %w", n.index, err)
			}
			results <- result{answer, err}
		}) {
			results <- result{err: fmt.Errorf("node %d: %w", n.index, context.Canceled)}
		}
	}
	var answers []T
	var errs []error
	for missing := len(q.nodes); missing > 0; missing-- {
		select {
		case r := <-results:
			redisx.Raise(r.err)
			if r.err != nil {
				errs = append(errs, r.err)
			} else if answers = append(answers, r.answer); len(answers) >= q.nodes.majority() && enough(answers) {
				return answers, nil
			}
		case <-ctx.Done():
			errs = append(errs, ctx.Err())
			missing = 0 // nobody else is heard
		}
	}
	if len(answers) >= q.nodes.majority() {
		return answers, nil
	}
	return nil, fmt.Errorf("%d of %d nodes answered: %w", len(answers), len(q.nodes), errors.Join(errs...))
}

// Reap removes the lock of a value that nobody wants, in the background.
func (q *Quorum) Reap(c store.Claim, why store.Reason) {
	q.end(c)
	for _, n := range q.nodes {
		n.Reap(c, why)
	}
}

// Leave takes a waiter off all queues, in the background.
func (q *Quorum) Leave(k store.Keys, name string) {
	for _, n := range q.nodes {
		n.Leave(k, name)
	}
}

// Close closes all servers. What may be left on a minority holds up nobody, and is no error.
func (q *Quorum) Close(ctx context.Context) error {
	errs := make([]error, len(q.nodes))
	q.nodes.each(func(n *node) { errs[n.index] = n.Close(ctx) })
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) <= q.nodes.minority() {
		return nil
	}
	return errs[0]
}
