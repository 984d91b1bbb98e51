package publisher

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestExpiryIsRenewedInTime(t *testing.T) {
	t.Parallel()
	e := newExpiry(time.Hour)
	assert.Equal(t, (61 * time.Minute).Milliseconds(), e.milliseconds)
	now := time.Now()
	assert.True(t, e.due(now), "it was never set")
	e.renewed(now)
	assert.False(t, e.due(now))
	assert.False(t, e.due(now.Add(time.Minute-1)))
	assert.True(t, e.due(now.Add(time.Minute)), "an event of now must last for an hour")
	assert.True(t, e.due(now.Add(-1)), "the clock was set back")

	shortest := newExpiry(time.Millisecond)
	assert.EqualValues(t, 1, shortest.milliseconds)
}
