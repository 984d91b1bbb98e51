package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// TestStall: a server that stands still for a moment delays a write, and makes it neither fail nor uncertain.
func TestStall(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	st := newState[int](t, newStore(t, newClient(t, server.Addr())))
	for i := range 10 { // quickly
		put(t, st, "k", i)
	}
	server.ResetCommands(t)
	server.Stop()
	timer := time.AfterFunc(500*time.Millisecond, server.Continue)
	defer timer.Stop()
	put(t, st, "k", 10)
	require.EqualValues(t, 1, server.Commands(t)["evalsha"])
}
