package notification_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// Nobody here has listened to what a subscriber goes on with, so only a heartbeat, or a recovery, tells that all of it was
// read. He does not wait for the next one of the clock.
func TestResumingUnderANewName(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"heartbeat", "another subscriber has come first", "recovery"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			client, admin := server.Client(t), server.Client(t)
			n := newSystem(t, client, notification.WithHeartbeat(time.Hour))
			subscribe(t, n, "other")
			p := &publisher{system: newSystem(t, admin)}
			require.Zero(t, p.publish(t.Context(), "k", 10))
			if how == "another subscriber has come first" {
				subscribe(t, n, "k")
			}
			if how == "recovery" {
				require.NoError(t, admin.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
			}
			s := n.SubscribeFrom(t.Context(), "k", "")
			require.NoError(t, s.Err())
			r := record(t, s)
			r.reached(t, p.last)
			require.Eventually(t, func() bool { return gauge(t, n, "replaying_subscribers") == 0 }, patience, time.Millisecond)
			require.Zero(t, p.publish(t.Context(), "k", 10))
			r.reached(t, p.last)
			assert.Zero(t, r.verify(t, p.sent))
			assert.Empty(t, r.gaps())
		})
	}
}
