package client

import (
	"context"
	"sync"
)

// nodeError is an error of a lock node.
type nodeError struct {
	addr string
	err  error
}

func (e *nodeError) Error() string { return e.err.Error() }
func (e *nodeError) Unwrap() error { return e.err }

// CheckLockNodes asks the lock nodes whether a majority of them answers, so that
// locks can be had, within the ping timeout and ctx. Without lock nodes it returns
// nil.
//
// It returns ErrInvalidArgument without a ctx, ErrNotStarted, ErrClosed, or an
// *Error that names one of the nodes.
func (r *Redis) CheckLockNodes(ctx context.Context) error {
	return r.check(ctx, func(ctx context.Context) error {
		if err := r.askLockNodes(ctx); err != nil {
			return r.fail(classify(err), err)
		}
		return nil
	})
}

// askLockNodes returns nil if a majority of the lock nodes answers, and so locks
// can be had. Otherwise it returns the error of one of them: one that time does not
// cure, if that is why there can be no majority.
func (r *Redis) askLockNodes(ctx context.Context) error {
	errs := make([]error, len(r.nodes))
	var all sync.WaitGroup
	for i, node := range r.nodes {
		all.Go(func() { errs[i] = node.ask(ctx) })
	}
	all.Wait()

	var passing, lasting []error
	for i, err := range errs {
		switch {
		case err == nil:
		case permanent(classify(err)):
			lasting = append(lasting, &nodeError{r.nodes[i].endpoint.String(), err})
		default:
			passing = append(passing, &nodeError{r.nodes[i].endpoint.String(), err})
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
