package notification

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// TestDropsAreToldUnderTheirOwnReason: another gap with the same message has a reason of its own.
func TestDropsAreToldUnderTheirOwnReason(t *testing.T) {
	t.Parallel()
	n, err := NewRedisNotificationSystem(redistest.Start(t).Client(t), WithBufferSize(1), WithPolicy(PolicyDropNewest))
	require.NoError(t, err)
	s := newSubscription(n, "k")
	s.state = live
	for i := range 4 { // three are dropped
		s.offer(&Message{}, position{1, uint64(i)}, position{}, 0)
	}
	s.missed(GapFailover, position{})
	<-s.messages
	s.offer(&Message{}, position{2, 1}, position{}, 0)
	var told []Gap
	for len(s.gaps) > 0 {
		g := <-s.gaps
		told = append(told, Gap{Reason: g.Reason, Missed: g.Missed})
	}
	assert.Equal(t, []Gap{{Reason: GapOverflow, Missed: 1}, {Reason: GapFailover}, {Reason: GapOverflow, Missed: 2}}, told)
	assert.Equal(t, GapFailover, (<-s.messages).Gap.Reason)
}
