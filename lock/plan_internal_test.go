package lock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/compozy/cache/internal/tasks"
	"github.com/compozy/cache/lock/internal/store"
)

// Only the last renewal of a lock decides when the next one is: with the outcome of each planning one, they would multiply where
// answers come when the renewal has been repeated.
func TestOnlyTheLastRenewalPlans(t *testing.T) {
	t.Parallel()
	const ttl = 3 * time.Second
	r := newRenewer(means{calls: tasks.New()})
	r.started = true // nobody sends anything
	l := &RedisLock{claim: store.Claim{TTL: ttl}, plan: plan{index: -1}}
	start := time.Now()
	sent := func(after time.Duration) extension {
		r.sent(l, start.Add(after))
		l.plan.renewal = time.Time{} // as takeDue does
		return extension{lock: l, claim: l.claim, sent: start.Add(after)}
	}
	planned := func() time.Duration { return l.plan.renewal.Sub(start) }

	first := sent(0)
	r.failed(first)
	assert.Equal(t, ttl/10, planned(), "at once")
	second := sent(ttl / 6)
	r.succeeded(first, true) // it was late
	assert.True(t, l.plan.renewal.IsZero(), "the second one is under way")
	r.failed(second)
	assert.InDelta(t, ttl/3, planned(), float64(ttl/30), "the first one's success leaves time")
	third := sent(ttl / 3)
	r.failed(third)
	r.succeeded(third, true)
	assert.InDelta(t, 2*ttl/3, planned(), float64(ttl/30), "a success after all ends the repetition")
	fourth := sent(2 * ttl / 3)
	r.failed(fourth)
	r.succeeded(fourth, false)
	assert.True(t, l.plan.due().IsZero(), "the lock is to be renewed no further")
	assert.Equal(t, -1, l.plan.index)
}
