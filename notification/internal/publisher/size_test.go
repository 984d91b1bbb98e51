package publisher

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/arguments"
	"github.com/compozy/cache/internal/redistest"
)

// An event that is too large is refused before anything is sent.
func TestLargeEventIsRefused(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	var commands sent
	client.AddHook(&commands)
	for _, history := range []int{100, 0} {
		p := newPublisher(client, func(s *Settings) { s.MaxEventSize, s.History = 1000, history })
		e := &Event{}
		e.To("k")
		require.NoError(t, p.Encode(t.Context(), e, map[string]string{"v": strings.Repeat("x", 900)}, false))
		for own, argument := range map[bool]string{false: "v", true: "event.Data"} {
			err := p.Encode(t.Context(), &Event{}, map[string]string{"v": strings.Repeat("x", 1000)}, own)
			var refused *arguments.Error
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, argument, refused.Argument)
			assert.ErrorContains(t, err, "WithMaxEventSize")
		}
		long := &Event{}
		long.To(strings.Repeat("c", 2000))
		require.Error(t, p.Encode(t.Context(), long, struct{}{}, false), "the names of channels count")
	}
	assert.Empty(t, commands.take())
}

// An event that is larger than the server accepts breaks the connection at each attempt. It is certain all the same that it
// was not published, and it stays so.
func TestEventBeyondTheServersLimitIsCertain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("proto-max-bulk-len", "1mb"))
	admin := server.Client(t)
	p := newPublisher(impatient(t, server.Addr(), patience), func(s *Settings) { s.MaxEventSize = 16 << 20 })
	require.NoError(t, publish(t, p, "k", 1, 1<<20-200))
	for _, bytes := range []int{1<<20 + 1, 8 << 20} {
		err := publish(t, p, "k", 1, bytes)
		require.Error(t, err)
		assert.False(t, uncertain(t, err), "%v", err)
	}
	require.NoError(t, publish(t, p, "k", 1, 0))
	requireChain(t, admin, p, 2)
}

// If such an event was published after all, that is not denied.
func TestAnnulledIsOnlyWhatWasNotExecuted(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p := newPublisher(server.Client(t), func(s *Settings) { s.MaxEventSize = 16 << 20 })
	all := events(t, p, "k", 1, 2<<20)
	l := p.lanes.take()
	l.number = 10
	require.True(t, p.annulled(t.Context(), l, all))
	failures, err := p.append(t.Context(), l, all, false)
	require.NoError(t, err)
	require.Empty(t, failures)
	require.Zero(t, length(t, server.Client(t), p), "an attempt that comes later does nothing")
	l.number++
	_, err = p.append(t.Context(), l, all, false)
	require.NoError(t, err)
	require.False(t, p.annulled(t.Context(), l, all))
	require.NoError(t, server.Client(t).Set(t.Context(), l.key, "11 0 NOPERM", 0).Err())
	require.False(t, p.annulled(t.Context(), l, all))
	require.False(t, p.annulled(t.Context(), l, events(t, p, "k", 1, 0)), "a small one may just be slow")
}
