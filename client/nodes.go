package client

import (
	"context"
	"fmt"
	"sync"

	"github.com/redis/go-redis/v9"
)

// LockNodes returns one client for each of the configured lock nodes, in their
// order, or nil. They belong to r: Open and Close include them.
func (r *Redis) LockNodes() []redis.UniversalClient {
	if r.zero() {
		return nil
	}
	var clients []redis.UniversalClient
	for _, node := range r.nodes {
		clients = append(clients, node.client)
	}
	return clients
}

// CheckLockNodes asks the lock nodes what HealthCheck asks the main server, within the ping
// timeout and ctx. It returns nil if a majority of them can hold locks and no two that
// answered are one server under two names, and without lock nodes.
//
// It returns ErrInvalidArgument without a ctx, ErrNotStarted, ErrClosed, or an *Error
// that names one of the nodes. Safe for concurrent use.
func (r *Redis) CheckLockNodes(ctx context.Context) error {
	return r.check(ctx, func(ctx context.Context) error { return checkAll(ctx, r.nodes) })
}

// checkAll checks all of nodes at once and returns an error if no majority is fit.
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
	return lockNodesError(errs)
}

// sameServer returns an error if two nodes that answered are one server under two names:
// it would have two votes, and its loss be that of two.
func sameServer(nodes []*server, errs []error) error {
	for i, node := range nodes {
		for j, other := range nodes[:i] {
			if errs[i] == nil && errs[j] == nil && node.sameAs(other) {
				return node.failure(node.endpoint.String(), ErrUnsupported, fmt.Errorf(
					"it is the same server as lock node %s; LockNodes (REDIS_LOCK_NODES) are independent servers", other.endpoint))
			}
		}
	}
	return nil
}

// lockNodesError returns nil if a majority of the nodes answered without an error.
// Otherwise it returns the error of one of them: one that time does not cure, if that
// is why there can be no majority.
func lockNodesError(errs []error) error {
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
	spare := (len(errs) - 1) / 2 // how many may fail
	switch {
	case len(passing)+len(lasting) <= spare:
		return nil
	case len(lasting) > spare || len(passing) == 0:
		return lasting[0]
	default:
		return passing[0]
	}
}
