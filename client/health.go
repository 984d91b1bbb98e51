package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// firstPause and longestPause bound the wait between two tries of WaitReady.
	firstPause   = 20 * time.Millisecond
	longestPause = 500 * time.Millisecond
)

// HealthCheck asks the server whether it can do what this module needs, within the
// ping timeout and ctx: answer, run scripts, and let this user do what locks, events
// and the store do, see the package comment. In a Cluster it asks every master. A check without an answer
// has the idle connections there replaced, which a firewall may have forgotten, unless ctx
// left it less than half of the ping timeout. It leaves nothing behind.
//
// It returns nil, ErrInvalidArgument without a ctx, ErrNotStarted, ErrClosed, or an
// *Error whose kind tells what is wrong: any of those in this package. What the server
// does not say, because the user may not ask for INFO, is a warning; see [Redis.Warnings].
// After a panic of a hook, the Dialer or other code of the application, the error says where that was, and not what. While
// ten checks have not returned, as a hook or a node of a Cluster hangs, no further one is begun.
// Safe for concurrent use.
func (r *Redis) HealthCheck(ctx context.Context) error {
	return r.check(ctx, func(limited context.Context) error { return r.metrics.checked.of(limited, r.main.check) })
}

// CheckLockNodes asks the lock nodes what HealthCheck asks the main server, within the ping
// timeout and ctx. It returns nil if a majority of them can hold locks and no two that
// answered are one server under two names, and without lock nodes.
//
// It returns ErrInvalidArgument without a ctx, ErrNotStarted, ErrClosed, or an *Error
// that names one of the nodes. Safe for concurrent use.
func (r *Redis) CheckLockNodes(ctx context.Context) error {
	return r.check(ctx, func(limited context.Context) error { return r.metrics.nodesChecked.of(limited, r.checkNodes) })
}

// check asks a question within the ping timeout and ctx, of a client that is in use.
func (r *Redis) check(ctx context.Context, question func(context.Context) error) error {
	if err := r.usable(ctx); err != nil {
		return err
	}
	ctx, cancel := redisx.WithTimeout(redisx.Background(ctx), r.cfg.PingTimeout)
	defer cancel()
	return question(ctx)
}

func (r *Redis) checkNodes(ctx context.Context) error { return checkAll(ctx, r.nodes) }

// usable returns an error when there is no point in asking Redis.
func (r *Redis) usable(ctx context.Context) error {
	if r.zero() {
		return errZero()
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	if err := r.gate.check(); err != nil {
		return classify(err)
	}
	return nil
}

// checkAll checks all of nodes at once and returns an error if no majority is fit: one that
// time does not cure, if that is why there can be no majority.
func checkAll(ctx context.Context, nodes []*server) error {
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, node := range nodes {
		all.Go(func() { errs[i] = node.check(ctx) })
	}
	all.Wait()
	if err := sameServer(nodes, errs); err != nil {
		return err
	}
	var passing, lasting []error
	for _, err := range errs {
		switch {
		case err == nil:
		case permanent(err):
			lasting = append(lasting, err)
		default:
			passing = append(passing, err)
		}
	}
	spare := (len(nodes) - 1) / 2 // how many may fail
	switch {
	case len(passing)+len(lasting) <= spare:
		return nil
	case len(lasting) > spare:
		return lasting[0]
	default:
		return passing[0]
	}
}

// sameServer returns an error if two nodes that answered are one server under two names:
// it would have two votes, and its loss be that of two.
func sameServer(nodes []*server, errs []error) error {
	seen := make(map[string]*server)
	for i, node := range nodes {
		node.mu.Lock()
		id := node.runID
		node.mu.Unlock()
		if errs[i] != nil || id == "" {
			continue
		}
		if other := seen[id]; other != nil {
			advice := node.endpoint.advised("LockNodes (REDIS_LOCK_NODES) are independent servers", nil)
			return node.failure(node.endpoint.String(), ErrUnsupported,
				fmt.Errorf("it is the same server as lock node %s; %w", other.endpoint, advice))
		}
		seen[id] = node
	}
	return nil
}

// Warnings returns what the last successful checks of the server and the lock nodes
// found that need not be wrong, but may surprise: a maxmemory-policy that may evict
// locks, a replica that accepts writes, a server whose version is unknown, or a Cluster
// that refuses COMMAND. Each is logged once. The health report shows them. Safe for
// concurrent use.
func (r *Redis) Warnings() []string {
	if r.zero() {
		return nil
	}
	var all []string
	for _, s := range r.servers {
		s.mu.Lock()
		all = append(all, s.warnings...)
		s.mu.Unlock()
	}
	return slices.Clip(all)
}

// WaitReady asks what HealthCheck asks until the server is fit for use, and a majority
// of the lock nodes where there are any, or until ctx ends; without an end of ctx it
// waits as long as it takes. Each try has twice the ping timeout at most, to connect
// and to answer.
//
// It returns nil, or an *Error with the address that wraps the last thing Redis or
// the network said, and the context's error if that is why it gave up. A wrong
// password, a missing permission, a server of the wrong kind or too old and other
// answers that time does not change make it return at once; a replica, too few
// replicas and a lack of memory may pass. It returns ErrInvalidArgument without a ctx,
// ErrNotStarted before Open and ErrClosed after Close.
func (r *Redis) WaitReady(ctx context.Context) error {
	if err := r.usable(ctx); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = redisx.WithDeadline(ctx, deadline)
		defer cancel()
	}
	var last error
	for tries := 1; ; tries++ {
		if err := r.usable(ctx); err != nil {
			return err
		}
		err := r.try(redisx.Background(ctx))
		if err == nil {
			return nil
		}
		// "Deadline exceeded" says less than the refusal that came before.
		if last == nil || !isContext(err) {
			last = err
		}
		if permanent(last) {
			return last
		}
		if err := redisx.Sleep(ctx, redisx.Backoff(tries, firstPause, longestPause)); err != nil {
			return because(last, err)
		}
	}
}

// try asks the server and the lock nodes once. It returns soon after ctx has ended: what is under way then, as a question to a
// sentinel, ends with its own limit, or with Close.
func (r *Redis) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*r.cfg.PingTimeout)
	defer cancel()
	if err := r.metrics.checked.of(ctx, r.main.check); err != nil {
		return err
	}
	return r.metrics.nodesChecked.of(ctx, r.checkNodes)
}

// because adds to err that a context ended, unless it says so.
func because(err, ended error) error {
	known, ok := errors.AsType[*Error](err)
	if !ok || errors.Is(err, ended) {
		return err
	}
	with := *known
	with.Err = fmt.Errorf("%w (%w)", known.Err, ended)
	return &with
}
