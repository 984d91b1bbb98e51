package group

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// All members are busy for long. They notice nevertheless that nobody reads the journal.
func TestBusyMembersTakeOver(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(ctx context.Context, b *bundle) error{
		"the leader dies": func(ctx context.Context, b *bundle) error {
			// The member that leads is the only one here: it is made to believe that another one has read on.
			known := b.client.HGet(ctx, b.k.progress, "known").Val() + " "
			until := time.Now().Add(leadFor / 2).UnixMilli()
			return b.client.HSet(ctx, b.k.progress, "leader", "dead", "until", until, "known", known).Err()
		},
		"the group is gone": func(ctx context.Context, b *bundle) error { return b.client.FlushAll(ctx).Err() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			begun := make(chan struct{}, 1)
			b.set(func(ctx context.Context, _ Event) Result {
				begun <- struct{}{}
				<-ctx.Done()
				return Result{Err: ctx.Err()}
			})
			b.run(t, func(s *Settings) { s.Claim = time.Hour })
			b.append(t, "k", 1)
			<-begun
			require.NoError(t, harm(t.Context(), b))
			b.append(t, "k", 5)
			b.eventually(t, "nobody reads the journal", func() bool { return b.client.ZCard(t.Context(), b.k.due).Val() >= 5 })
		})
	}
}
