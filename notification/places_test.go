package notification

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// TestJournalThatBeginsAnewGivesNoPlaceTwice: it may have been deleted in the millisecond of its last event, and the next
// one comes in the same.
func TestJournalThatBeginsAnewGivesNoPlaceTwice(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n, err := NewRedisNotificationSystem(client)
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Close() })
	p := n.publisher
	one := p.scripts.one.Command(t.Context(), []string{p.journal}, "own\n1:k", `"time":"t"}`, noLimit, "k")
	many := p.scripts.many.Command(t.Context(), []string{p.journal},
		p.size, p.expiry.milliseconds, 0, noLimit, "own\n1:k", `"time":"t"}`, 1, "k")
	require.NoError(t, client.Process(t.Context(), p.scripts.one.Full(t.Context(), one)))
	require.NoError(t, client.Process(t.Context(), p.scripts.many.Full(t.Context(), many)))
	for name, command := range map[string][]any{"one": one.Args(), "many": many.Args()} {
		for range 50 { // nearly all of it in one millisecond
			replies, err := client.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
				for range 3 {
					pipe.Do(t.Context(), command...)
					pipe.XRevRangeN(t.Context(), n.keys.journal, "+", "-", 1)
					pipe.Del(t.Context(), n.keys.journal)
				}
				return nil
			})
			require.NoError(t, err, name)
			var last position
			for i := 1; i < len(replies); i += 3 {
				place, ok := parsePosition(replies[i].(*redis.XMessageSliceCmd).Val()[0].ID)
				require.True(t, ok)
				require.True(t, last.less(place), "%s: %v after %v", name, place, last)
				last = place
			}
		}
	}
}
