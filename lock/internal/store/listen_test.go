package store

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestInboxesDoNotStayInStep: those that have connected together do not connect together again.
func TestInboxesDoNotStayInStep(t *testing.T) {
	t.Parallel()
	first, others := nextLifetime(), 0
	for range 100 {
		next := nextLifetime()
		assert.GreaterOrEqual(t, next, inboxLifetime)
		assert.LessOrEqual(t, next, inboxLifetime*3/2)
		if next != first {
			others++
		}
	}
	assert.NotZero(t, others)
}
