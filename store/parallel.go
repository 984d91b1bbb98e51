package store

import (
	"errors"
	"sync"

	"github.com/compozy/cache/internal/redisx"
)

var errExited = errors.New("a function of the caller, or a hook of the client, has called runtime.Goexit")

// parallel calls f for each index below n, at the same time, and returns its errors when all have returned. A panic of f is
// raised in the caller, who can recover.
func parallel(n int, f func(i int) error) []error {
	errs := make([]error, n)
	if n == 1 {
		errs[0] = f(0)
		return errs
	}
	var all sync.WaitGroup
	for i := range n {
		errs[i] = errExited
		all.Go(func() { errs[i] = redisx.Catch(func() error { return f(i) }) })
	}
	all.Wait()
	for _, err := range errs {
		redisx.Raise(err)
	}
	return errs
}
