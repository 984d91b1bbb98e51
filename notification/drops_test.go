package notification

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification/internal/journal"
)

// TestDropsAreToldUnderTheirOwnReason: another gap with the same message has a reason of its own.
func TestDropsAreToldUnderTheirOwnReason(t *testing.T) {
	t.Parallel()
	n, err := NewRedisNotificationSystem(redistest.Start(t).Client(t), WithBufferSize(1), WithPolicy(PolicyDropNewest))
	require.NoError(t, err)
	s := newSubscription(n.common, "k")
	s.state = live
	for i := range 4 { // three are dropped
		s.offer(&Message{}, journal.Position{Ms: 1, Offset: uint64(i)})
	}
	s.missed(GapFailover, spot{})
	<-s.messages
	s.offer(&Message{}, journal.Position{Ms: 2, Offset: 1})
	var told []Gap
	for len(s.gaps.out) > 0 {
		g := <-s.gaps.out
		told = append(told, Gap{Reason: g.Reason, Missed: g.Missed})
	}
	assert.Equal(t, []Gap{{Reason: GapOverflow, Missed: 1}, {Reason: GapFailover}, {Reason: GapOverflow, Missed: 2}}, told)
	assert.Equal(t, GapFailover, (<-s.messages).Gap.Reason)
}
