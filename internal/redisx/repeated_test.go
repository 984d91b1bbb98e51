package redisx_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/internal/redisx"
)

func TestRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		log := zap.New(core)
		var lost redisx.Repeated
		fail := func() { lost.Log(log, zap.WarnLevel, "lost", zap.String("why", "down")) }
		pause := func(d time.Duration) { require.NoError(t, redisx.Sleep(t.Context(), d)) }
		expect := func(messages ...string) {
			t.Helper()
			var got []string
			for _, e := range logs.TakeAll() {
				got = append(got, e.Message)
			}
			require.Equal(t, messages, got)
		}

		lost.Over(log, "back")
		expect() // it has never come up

		began := time.Now()
		for time.Since(began) < 150*time.Second { // an outage
			fail()
			pause(time.Second)
		}
		entries := logs.TakeAll()
		require.Len(t, entries, 3, "at once, after one minute, after two")
		require.Equal(t, map[string]any{"why": "down"}, entries[0].ContextMap())
		require.Equal(t, map[string]any{"why": "down", "repeated": int64(59)}, entries[1].ContextMap())
		lost.Over(log, "back")
		lost.Over(log, "back")
		expect("back")

		pause(time.Second) // it flutters: less than a minute after the last line
		fail()
		lost.Over(log, "back")
		expect()

		pause(time.Minute)
		fail()
		lost.Over(log, "back")
		expect("lost", "back")
	})
}
