package notification_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
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

// All data is lost, and the new journal happens to begin, or to end, after just as many bytes as the former one had with the event
// from which a subscriber goes on.
func TestResumingFromAFormerJournal(t *testing.T) {
	t.Parallel()
	for name, shorten := range map[string]func(t *testing.T, client *redis.Client){
		"it expired": func(t *testing.T, client *redis.Client) {
			t.Helper()
			require.NoError(t, client.Del(t.Context(), journalKey).Err())
		},
		"it was trimmed": func(t *testing.T, client *redis.Client) {
			t.Helper()
			require.NoError(t, client.XTrimMaxLen(t.Context(), journalKey, 1).Err())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			client, n := server.Client(t), newSystem(t, server.Client(t))
			publish := func(number int) { require.NoError(t, n.Publish(t.Context(), "k", numbered{number})) }
			ids := func() (ids []string) {
				for _, entry := range client.XRange(t.Context(), journalKey, "-", "+").Val() {
					ids = append(ids, entry.ID)
				}
				return ids
			}
			publish(1)
			id := ids()[0]
			require.Eventually(t, func() bool { // an event's time has not always as many digits
				require.NoError(t, client.FlushAll(t.Context()).Err())
				nextMillisecond(t, client)
				publish(2)
				return offsetOf(id) == offsetOf(ids()[0])
			}, patience, time.Millisecond)
			publish(3)
			shorten(t, client)
			if name == "it expired" {
				require.NoError(t, client.HSet(t.Context(), "cache:{notification}:state", "offset", offsetOf(id)).Err(), "as if 3 had not come")
			}
			m := newSystem(t, server.Client(t))
			s := m.SubscribeFrom(t.Context(), "k", id)
			gaps := make(chan notification.Gap, 9)
			consumed, stop := context.WithCancel(t.Context())
			over := make(chan error, 1)
			ready := make(chan struct{})
			go func() {
				over <- notification.Consume(consumed, m, "g", "k", func(context.Context, numbered) error { return nil },
					notification.WithFrom(id), notification.WithOnGap(func(g notification.Gap) { gaps <- g }),
					notification.WithReady(func() { close(ready) }))
			}()
			<-ready
			publish(4)
			first := next(t, s)
			if assert.NotNil(t, first.Gap) {
				assert.Equal(t, notification.GapTrimmed, first.Gap.Reason)
			}
			assert.Equal(t, notification.GapWiped, (<-gaps).Reason)
			stop()
			require.NoError(t, <-over)
		})
	}
}

// offsetOf returns the part of an event ID that counts bytes.
func offsetOf(id string) string {
	_, offset, _ := strings.Cut(id, "-")
	return offset
}
