package notification

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"go.uber.org/zap"

	"github.com/compozy/cache/notification/internal/feed"
)

// beating is an asker that looks at the topics when it is asked for a heartbeat.
type beating struct {
	*feed.Feed

	topics *topics
	seen   []*Subscription
}

func (b *beating) BeatSoon() uint64 {
	b.seen = b.topics.waiting()
	return b.Feed.BeatSoon()
}

// A heartbeat that comes back before the subscription is there would leave it waiting for the next one.
func TestHeartbeatIsAskedForWhenTheSubscriptionIsThere(t *testing.T) {
	t.Parallel()
	ts := newTopics()
	b := &beating{Feed: feed.New(feed.Settings{Logger: zap.NewNop()}, nil), topics: ts}
	ts.asker = b
	s := newSubscription(&common{buffer: 1, topics: ts}, "k")
	ts.attach(s)
	assert.Equal(t, []*Subscription{s}, b.seen)
	assert.Equal(t, uint64(1), s.beat)
}
