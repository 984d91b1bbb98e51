package store

import (
	"sync"

	"github.com/compozy/cache/internal/redisx"
)

// parallel calls f for each index below n, at the same time, and returns its errors when all have returned. A panic of f is
// raised in the caller, who can recover; after runtime.Goexit the error is [redisx.ErrExited].
func parallel(n int, f func(i int) error) []error {
	errs := make([]error, n)
	if n == 1 {
		errs[0] = f(0)
		return errs
	}
	var all sync.WaitGroup
	for i := range n {
		errs[i] = redisx.ErrExited
		all.Go(func() { errs[i] = redisx.Catch(func() error { return f(i) }) })
	}
	all.Wait()
	for _, err := range errs {
		redisx.Raise(err)
	}
	return errs
}
