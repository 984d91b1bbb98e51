package cache_test

import (
	"maps"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/compozy/cache"
	"github.com/compozy/cache/internal/redistest"
)

func TestLocksAndPublishingCostOneRoundTrip(t *testing.T) {
	t.Parallel()
	want := map[string]int64{"acquire": 1, "refused try": 1, "refresh": 1, "release": 1, "workflow event": 1, "task event": 1}
	var cost map[string]int64
	// On a machine that is too busy a call takes so long that it is sent again, and is
	// cleaned up after for some time. Then only a measurement from the beginning can decide.
	for range 3 {
		if cost = roundTrips(t); maps.Equal(want, cost) {
			break
		}
	}
	assert.Equal(t, want, cost)
}

// roundTrips returns how often Redis is asked for what a lock and a publisher do.
func roundTrips(t *testing.T) map[string]int64 {
	t.Helper()
	server := redistest.Start(t)
	var parts everything
	startApp(t, server, fx.Invoke(func(p everything) { parts = p }))
	ctx := timeout(t)
	other, err := cache.SetupCache(ctx, configOf(server))
	require.NoError(t, err)
	defer other.Close()

	var lock cache.Lock
	cost := map[string]int64{}
	// The first round may have to send the scripts themselves.
	for _, what := range []string{"warm", "job"} {
		for _, step := range []struct {
			name string
			do   func() error
		}{
			{"acquire", func() (err error) { lock, err = parts.LockManager.Acquire(ctx, what, time.Minute); return err }},
			{"refused try", func() error {
				_, err := other.LockManager.Acquire(ctx, what, time.Minute)
				require.ErrorIs(t, err, cache.ErrLockNotAcquired)
				return nil
			}},
			{"refresh", func() error { return lock.Refresh(ctx) }},
			{"release", func() error { return lock.Release(ctx) }},
			{"workflow event", func() error {
				return parts.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: what, Status: "s"})
			}},
			{"task event", func() error {
				return parts.Notification.PublishTaskEvent(ctx, &cache.TaskEvent{ID: what, WorkflowID: what, Status: "s"})
			}},
		} {
			server.ResetCommands(t)
			require.NoError(t, step.do(), step.name)
			sent := server.Commands(t)
			t.Logf("%s %q: %v", step.name, what, sent)
			// The rest of the table is what the script did on the server.
			cost[step.name] = sent["evalsha"] + sent["eval"] + sent["multi"]
		}
	}
	return cost
}

//nolint:paralleltest // it counts goroutines
func TestTenThousandSubscribersShareOneConnection(t *testing.T) {
	server := redistest.Start(t)
	var parts everything
	startApp(t, server, fx.Invoke(func(p everything) { parts = p }))
	ctx := timeout(t)
	subscribe := func(n int) (subs []cache.Subscriber) {
		for i := range n {
			name := "workflow:*"
			if i%2 == 1 {
				name = "workflow:" + strconv.Itoa(i)
			}
			subs = append(subs, parts.Notification.Subscribe(ctx, name))
		}
		return subs
	}
	subscribe(100)
	before := runtime.NumGoroutine()

	subs := subscribe(10_000)

	assert.LessOrEqual(t, runtime.NumGoroutine(), before+20, "subscribers cost no goroutines")
	list, err := server.Client(t).Do(ctx, "CLIENT", "LIST", "TYPE", "pubsub").Text()
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(list, "\n"), list)
	require.NoError(t, parts.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "9999", Status: "done"}))
	for _, i := range []int{0, 9998, 9999} {
		assert.Contains(t, receive(ctx, t, subs[i]).Payload, `"done"`)
	}
	metrics := parts.NotificationConcrete.GetMetrics()
	assert.Equal(t, 10_100, metrics.Subscribers)
	assert.Equal(t, 5_001, metrics.ActiveChannels)
}
