package lock_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPrintingIsNoRace is for the race detector: fmt reads all fields of what has no String.
func TestPrintingIsNoRace(t *testing.T) {
	t.Parallel()
	_, m := setup(t)
	l := acquire(t, m, "job", longTTL)
	over := make(chan struct{})
	var refreshed atomic.Int64
	var all sync.WaitGroup
	defer all.Wait()
	defer close(over)
	all.Go(func() { // changes what a renewal changes
		for {
			select {
			case <-over:
				return
			default:
			}
			if l.Refresh(t.Context()) == nil {
				refreshed.Add(1)
			}
		}
	})
	require.Eventually(t, func() bool {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
			assert.Contains(t, fmt.Sprintf(verb, l), "job")
			assert.Contains(t, fmt.Sprintf(verb, m), "default")
		}
		return refreshed.Load() > 20
	}, patience, tick)
}
