package notification_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// With PolicyDropOldest the hole is in front of the buffer, and the gap behind it.
func TestDropOldestTellsWithTheNewest(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t),
		notification.WithBufferSize(4), notification.WithPolicy(notification.PolicyDropOldest))
	s, all := subscribe(t, n, "k"), record(t, subscribe(t, n, "k*"))
	p := &publisher{system: n}
	for range 6 {
		require.Zero(t, p.publish(t.Context(), "k", 1))
		all.reached(t, p.last)
	}
	require.Eventually(t, func() bool { return s.Dropped() == 2 }, patience, 5*time.Millisecond)
	var got []*notification.Message
	for range 4 {
		got = append(got, next(t, s))
	}
	for i, m := range got {
		v, err := notification.Decode[numbered](m)
		require.NoError(t, err)
		assert.Equal(t, i+3, v.N)
	}
	assert.Nil(t, got[0].Gap, "1 and 2 are missing before this one")
	assert.Nil(t, got[1].Gap)
	for i, m := range got[2:] {
		require.NotNil(t, m.Gap)
		assert.Equal(t, notification.GapOverflow, m.Gap.Reason)
		assert.EqualValues(t, 1, m.Gap.Missed)
		assert.Equal(t, got[i+1].EventID, m.Gap.After)
		assert.Equal(t, m.EventID, m.Gap.Before)
	}
	assert.Equal(t, got[1].EventID, (<-s.Gaps()).After)
}

// Whoever reads Gaps only learns the same number as whoever reads the messages.
func TestGapsTellHowManyWereDropped(t *testing.T) {
	t.Parallel()
	for _, policy := range []notification.Policy{notification.PolicyDropOldest, notification.PolicyDropNewest} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			n := newSystem(t, redistest.Start(t).Client(t), notification.WithBufferSize(1), notification.WithPolicy(policy))
			s := subscribe(t, n, "k")
			const events = 100
			for i := range events {
				require.NoError(t, n.Publish(t.Context(), "k", numbered{i + 1}))
			}
			require.Eventually(t, func() bool { return s.Dropped() == events-1 }, patience, time.Millisecond)
			m := next(t, s)
			if m.Gap == nil { // the oldest
				require.NoError(t, n.Publish(t.Context(), "k", numbered{events + 1}))
				m = next(t, s)
			}
			require.NotNil(t, m.Gap)
			assert.EqualValues(t, events-1, m.Gap.Missed)
			require.NoError(t, s.Close())
			told := uint64(0)
			for gap := range s.Gaps() {
				told += gap.Missed
			}
			assert.EqualValues(t, events-1, told)
		})
	}
}
