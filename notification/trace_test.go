package notification_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// The publisher's trace is in the payload, where any client can read it, and goes with the event wherever it is read from.
func TestTraceParent(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string]trace.TraceFlags{"sampled": trace.FlagsSampled, "not sampled": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			span := trace.NewSpanContext(trace.SpanContextConfig{
				TraceID: trace.TraceID{1, 2, 3, 15: 16}, SpanID: trace.SpanID{1, 2, 3, 7: 8}, TraceFlags: flags,
			})
			parent := "00-01020300000000000000000000000010-0102030000000008-" + flags.String()
			traced := trace.ContextWithSpanContext(t.Context(), span)
			server := redistest.Start(t)
			client, proxy := through(t, server)
			n, outside := newSystem(t, client), newSystem(t, server.Client(t))
			s := subscribe(t, n, "k")
			raw := server.Client(t).Subscribe(t.Context(), "k")
			defer func() { require.NoError(t, raw.Close()) }()
			_, err := raw.Receive(t.Context())
			require.NoError(t, err)
			publish := func() {
				require.NoError(t, outside.Publish(traced, "k", numbered{1}))
				require.NoError(t, outside.Publish(t.Context(), "k", numbered{2}))
			}
			is := func(m *notification.Message, parent string, recovered bool) {
				t.Helper()
				assert.Equal(t, parent, m.TraceParent)
				assert.Equal(t, recovered, m.Recovered)
			}

			publish()
			var with, without map[string]any
			require.NoError(t, json.Unmarshal([]byte(receive(t, raw)), &with))
			require.NoError(t, json.Unmarshal([]byte(receive(t, raw)), &without))
			assert.Equal(t, parent, with["traceparent"])
			assert.NotContains(t, without, "traceparent")
			is(next(t, s), parent, false)
			is(next(t, s), "", false)

			proxy.Refuse(true)
			proxy.Cut()
			require.Eventually(t, func() bool { return health(n) != nil }, patience, time.Millisecond)
			publish()
			proxy.Refuse(false)
			is(next(t, s), parent, true)
			is(next(t, s), "", true)

			var replayed []*notification.Message
			for m, err := range outside.Replay(t.Context(), "k", "", "") {
				require.NoError(t, err)
				replayed = append(replayed, m)
			}
			require.Len(t, replayed, 4)
			is(replayed[0], parent, true)
			is(replayed[1], "", true)
		})
	}
}
