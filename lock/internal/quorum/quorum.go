package quorum

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis"

	"github.com/compozy/cache/lock/internal/store"
)

// Quorum keeps locks on several servers. It is safe for concurrent use.
type Quorum struct {
	nodes   []*node
	redsync *redsync.Redsync
	// spawn starts a goroutine, and reports false if none may be started any more.
	spawn func(func()) bool

	mu sync.Mutex // guards stragglers
	// stragglers is votes that have granted a lock though servers have not answered yet, by the lock's value: what those
	// grant once the lock has ended is to be taken back.
	stragglers map[string]*vote
}

// node is one of the servers.
type node struct {
	*store.Redis

	index int
	late  atomic.Int32 // calls whose callers have gone on without them
}

// New returns a Quorum of servers.
func New(servers []*store.Redis, spawn func(func()) bool) *Quorum {
	q := &Quorum{spawn: spawn, stragglers: make(map[string]*vote)}
	pools := make([]redis.Pool, len(servers))
	for i, s := range servers {
		n := &node{Redis: s, index: i}
		q.nodes = append(q.nodes, n)
		pools[i] = pool{n}
	}
	q.redsync = redsync.New(pools...)
	return q
}

// majority is how many servers have to agree.
func (q *Quorum) majority() int { return len(q.nodes)/2 + 1 }

// Acquire takes the lock if a majority grants it. Unless it does nothing is left behind.
func (q *Quorum) Acquire(ctx context.Context, c store.Claim) store.Reply {
	return q.acquire(ctx, c, "", func(ctx context.Context, n *node) store.Reply { return n.TryAcquire(ctx, c) })
}

// Enqueue is Acquire for one who waits: servers that do not grant the lock queue it.
func (q *Quorum) Enqueue(ctx context.Context, c store.Claim, w store.Waiter) store.Reply {
	return q.acquire(ctx, c, w.Name, func(ctx context.Context, n *node) store.Reply { return n.TryEnqueue(ctx, c, w) })
}

func (q *Quorum) acquire(ctx context.Context, c store.Claim, waiter string, ask request) store.Reply {
	v := q.newVote(ctx, acquiring, c, ask)
	v.waiter = waiter
	granted := false
	defer func() { v.end(granted) }() // also if a hook of a client panics
	if q.mutex(c).TryLockContext(v.carry()) != nil {
		return v.refusal()
	}
	token, ok := v.agree()
	if !ok {
		return store.Reply{Outcome: store.Failed, Err: errNoTokens}
	}
	granted = true
	return store.Reply{Outcome: store.Granted, Token: token, Sure: v.sure()}
}

// Release frees the lock and lets waiters know. On servers that fail to it is removed in the background.
func (q *Quorum) Release(ctx context.Context, c store.Claim) store.Reply {
	acquired := q.endStragglers(c)
	v := q.newVote(ctx, releasing, c, func(ctx context.Context, n *node) store.Reply {
		acquired.await(ctx, n) // or the lock might be set after it was released
		return n.TryRelease(ctx, c)
	})
	defer v.end(true)
	ok, _ := q.mutex(c).UnlockContext(v.carry()) // the votes say more than redsync's error
	t := v.tally()
	switch {
	case ok:
		return store.Reply{Outcome: store.Granted, PassedOn: t.passedOn}
	case t.failed > 0 && t.granted+t.failed >= q.majority():
		return store.Reply{Outcome: store.Failed, Err: t.err()}
	case t.refused > t.absent:
		return store.Reply{Outcome: store.Refused}
	default:
		return store.Reply{Outcome: store.Absent}
	}
}

// ReleaseAll releases locks in pipelines, and calls done for each with its index when a majority has released it, or
// cannot any more. When all are decided servers that are late are left to the background.
func (q *Quorum) ReleaseAll(ctx context.Context, claims []store.Claim, done func(i int, r store.Reply)) {
	for _, c := range claims {
		q.endStragglers(c)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	decide := func(i int, r store.Reply, decided *int) {
		done(i, r)
		if *decided++; *decided == len(claims) {
			cancel()
		}
	}
	var mu sync.Mutex // guards what follows
	decided := 0
	released, failed := make([]int, len(claims)), make([]int, len(claims))
	var all sync.WaitGroup
	for _, n := range q.nodes {
		all.Go(func() {
			n.ReleaseAll(ctx, claims, func(i int, r store.Reply) {
				mu.Lock()
				defer mu.Unlock()
				if r.Outcome != store.Failed {
					if released[i]++; released[i] == q.majority() {
						decide(i, r, &decided)
					}
				} else if failed[i]++; failed[i] == len(q.nodes)-q.majority()+1 {
					decide(i, r, &decided)
				}
			})
		})
	}
	all.Wait()
}

// Refresh makes a lock last for its TTL from now.
func (q *Quorum) Refresh(ctx context.Context, c store.Claim) store.Reply {
	v := q.newVote(ctx, extending, c, func(ctx context.Context, n *node) store.Reply { return n.Refresh(ctx, n.cautious([]store.Claim{c})[0]) })
	defer v.end(true)
	if ok, _ := q.mutex(c).ExtendContext(v.carry()); ok {
		return store.Reply{Outcome: store.Granted}
	}
	t := v.tally()
	if r := t.loss(len(q.nodes) - q.majority()); r.Outcome != store.Pending {
		return r
	}
	return store.Reply{Outcome: store.Failed, Err: t.err()}
}

// endStragglers has what is still granted to a lock that has ended taken back. It returns the vote that acquired the
// lock, nil if all have answered.
func (q *Quorum) endStragglers(c store.Claim) *vote {
	q.mu.Lock()
	v := q.stragglers[c.Value]
	q.mu.Unlock()
	if v != nil {
		v.disown()
	}
	return v
}

// mutex returns redsync's view of a lock, for one call. The TTL matters only for redsync's check that the answers have
// come in time, which the caller repeats with the true one.
func (q *Quorum) mutex(c store.Claim) *redsync.Mutex {
	return q.redsync.NewMutex(c.Keys.Lock(),
		redsync.WithExpiry(min(c.TTL, store.FirstGrant)),
		redsync.WithValue(c.Value),
		redsync.WithGenValueFunc(func() (string, error) { return c.Value, nil }),
		redsync.WithTries(1),
		redsync.WithFailFast(true), // return when the majority has decided
	)
}

// Inspect describes a lock as a majority sees it.
func (q *Quorum) Inspect(ctx context.Context, k store.Keys) (store.State, error) {
	type answer struct {
		store.State

		ok bool
	}
	answers := make(chan answer, len(q.nodes))
	err := q.most(ctx, func(ctx context.Context, n *node) error {
		s, err := n.Inspect(ctx, k)
		answers <- answer{s, err == nil}
		return err
	})
	if err != nil {
		return store.State{}, err
	}
	var whole store.State
	holders := make(map[string]int, 1)
	for range len(answers) { // a majority at least
		a := <-answers
		if !a.ok {
			continue
		}
		whole.Waiting, whole.Token = max(whole.Waiting, a.Waiting), max(whole.Token, a.Token)
		if !a.Held {
			continue
		}
		if holders[a.Value]++; holders[a.Value] >= q.majority() {
			whole.Held, whole.Value, whole.TTL = true, a.Value, a.TTL
		}
	}
	return whole, nil
}

// Ping reports whether a majority answers.
func (q *Quorum) Ping(ctx context.Context) error {
	return q.most(ctx, func(ctx context.Context, n *node) error { return n.Ping(ctx) })
}

// Reap removes the lock of a value that nobody wants, in the background.
func (q *Quorum) Reap(c store.Claim) {
	q.endStragglers(c)
	for _, n := range q.nodes {
		n.Reap(c)
	}
}

// ReapRepeated is Reap for a lock that was released, of which a try to acquire it may be on its way still.
func (q *Quorum) ReapRepeated(c store.Claim) {
	for _, n := range q.nodes {
		n.ReapRepeated(c)
	}
}

// ReapLost is Reap for a lock whose holder knows that it is lost.
func (q *Quorum) ReapLost(c store.Claim) {
	q.endStragglers(c)
	for _, n := range q.nodes {
		n.ReapLost(c)
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
	errs := make(chan error, len(q.nodes))
	for _, n := range q.nodes {
		go func() { errs <- n.Close(ctx) }()
	}
	failed := 0
	var err error
	for range q.nodes {
		if e := <-errs; e != nil {
			failed++
			err = e
		}
	}
	if failed <= len(q.nodes)-q.majority() {
		return nil
	}
	return err
}

// most puts a question to all servers and returns nil when a majority has answered, or why none did.
func (q *Quorum) most(ctx context.Context, ask func(context.Context, *node) error) error {
	answers := make(chan error, len(q.nodes))
	for _, n := range q.nodes {
		if !q.spawn(func() {
			err := ask(ctx, n)
			if err != nil {
				err = fmt.Errorf("node %d: %w", n.index, err)
			}
			answers <- err
		}) {
			answers <- fmt.Errorf("node %d: %w", n.index, context.Canceled)
		}
	}
	up := 0
	var errs []error
	for range q.nodes {
		select {
		case err := <-answers:
			if err != nil {
				errs = append(errs, err)
			} else if up++; up >= q.majority() {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("%d of %d nodes answered: %w", up, len(q.nodes), errors.Join(append(errs, ctx.Err())...))
		}
	}
	return fmt.Errorf("%d of %d nodes answered: %w", up, len(q.nodes), errors.Join(errs...))
}
