package notification_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// An ID that is ahead of the journal is one of another journal, also where no heartbeat can say so: the user lacks a permission
// for that. With most of them the journal can be read nevertheless.
func TestResumingAheadOfTheJournalWithoutAPermission(t *testing.T) {
	t.Parallel()
	for refused, reason := range map[string]notification.GapReason{
		"-xlen": notification.GapTrimmed, "-xrevrange": notification.GapTrimmed, "-pttl": notification.GapTrimmed,
		"-hmget": notification.GapUnreadable,
	} {
		t.Run(refused, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			n := newSystem(t, server.Client(t))
			publish(t, n, "k", 1, 3)
			publish(t, n, "other", 0, 0)
			m := newSystem(t, limited(t, server, refused))
			s := m.SubscribeFrom(t.Context(), "k", "99999999999999-5")
			select {
			case gap := <-s.Gaps():
				require.Equal(t, reason, gap.Reason)
			case <-time.After(patience):
				require.FailNow(t, "no gap")
			}
			publish(t, n, "k", 4, 6)
			want := []int{1, 2, 3, 4, 5, 6} // all of the journal is new
			if reason == notification.GapUnreadable {
				want = want[3:]
			}
			last := ""
			for i, number := range want {
				message := next(t, s)
				require.Equal(t, i == 0, message.Gap != nil)
				v, err := notification.Decode[numbered](message)
				require.NoError(t, err)
				require.Equal(t, number, v.N)
				if number == 4 {
					last = message.EventID
				}
			}

			// What comes behind an ID of this journal is all there, if it can be read.
			r := m.SubscribeFrom(t.Context(), "k", last)
			if reason == notification.GapUnreadable {
				require.Equal(t, reason, (<-r.Gaps()).Reason)
			}
			publish(t, n, "k", 7, 7)
			for number := 5; number <= 7; number++ {
				if reason == notification.GapUnreadable {
					number = 7
				}
				message := next(t, r)
				require.Equal(t, reason == notification.GapUnreadable, message.Gap != nil)
				v, err := notification.Decode[numbered](message)
				require.NoError(t, err)
				require.Equal(t, number, v.N)
			}
			if reason == notification.GapUnreadable {
				return
			}
			beginning := m.SubscribeFrom(t.Context(), "other", "") // of which nothing has come over the connection
			publish(t, n, "other", 1, 1)
			for number := range 2 {
				v, err := notification.Decode[numbered](next(t, beginning))
				require.NoError(t, err)
				require.Equal(t, number, v.N)
			}
		})
	}
}
