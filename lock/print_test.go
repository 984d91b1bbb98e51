package lock_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPrintingIsNoRace is for the race detector: fmt reads all fields of what has no String.
func TestPrintingIsNoRace(t *testing.T) {
	t.Parallel()
	_, m := setup(t)
	l := acquire(t, m, "job", 30*time.Millisecond)
	require.Eventually(t, func() bool {
		for _, verb := range []string{"%v", "%+v", "%s", "%q"} {
			assert.Contains(t, fmt.Sprintf(verb, l), "job")
			assert.Contains(t, fmt.Sprintf(verb, m), "default")
		}
		return m.GetMetrics().RenewalsTotal > 2 || !l.IsHeld()
	}, patience, tick)
}
