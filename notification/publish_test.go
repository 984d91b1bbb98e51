package notification_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

func TestPublishIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := newSystem(t, server.Client(t))
	twice := []notification.Outgoing{notification.To("a", numbered{1}), notification.To("b", numbered{2})}
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	require.NoError(t, n.PublishBatch(t.Context(), twice...)) // the scripts are loaded now
	server.ResetCommands(t)
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 10))
	require.NoError(t, n.PublishBatch(t.Context(), twice...))
	commands := server.Commands(t)
	assert.EqualValues(t, 11, commands["evalsha"])
	assert.EqualValues(t, 12, commands["publish"])
	assert.EqualValues(t, 12, commands["xadd"])
	assert.Zero(t, commands["eval"])
}

func TestManyPublishersShareBatches(t *testing.T) {
	t.Parallel()
	const callers, each = 64, 10
	server := redistest.Start(t)
	client, proxy := through(t, server)
	n, listener := newSystem(t, client), newSystem(t, server.Client(t), notification.WithBufferSize(callers*each))
	r := subscribe(t, listener, "caller:*")
	require.NoError(t, n.Publish(t.Context(), "k", struct{}{}))
	// Replies take so long that whoever does not wait for one waits for a batch.
	proxy.SetLatency(5 * time.Millisecond)
	server.ResetCommands(t)
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for i := range each {
				assert.NoError(t, n.Publish(t.Context(), "caller:"+string(rune('A'+caller)), numbered{i}))
			}
		})
	}
	last := map[string]int{}
	for range callers * each {
		m := next(t, r)
		v, err := notification.Decode[numbered](m)
		require.NoError(t, err)
		require.Equal(t, last[m.Channel], v.N, "the order of each publisher is kept")
		last[m.Channel]++
	}
	all.Wait()
	assert.Less(t, server.Commands(t)["evalsha"], int64(callers*each/4))
}

func TestPublishErrors(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	n := newSystem(t, client)

	require.NoError(t, client.Set(t.Context(), "cache:{notification}:journal", "not a stream", 0).Err())
	var failed *notification.PublishError
	require.ErrorAs(t, n.Publish(t.Context(), "k", struct{}{}), &failed)
	assert.Equal(t, "k", failed.Channel)
	assert.False(t, failed.Uncertain, "the server has refused it")
	assert.ErrorContains(t, failed, "WRONGTYPE")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, n.Publish(ctx, "k", struct{}{}), context.Canceled)

	server.Kill()
	require.ErrorAs(t, n.Publish(t.Context(), "k", struct{}{}), &failed)
	assert.EqualValues(t, 3, n.GetMetrics().PublishErrors)
	assert.Zero(t, n.GetMetrics().MessagesPublished)
}

func TestPublishIsGivenUpWithItsContext(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	options := server.Options()
	options.ContextTimeoutEnabled = true
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	n := newSystem(t, client)
	server.Stop()
	defer server.Continue()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	var failed [600]error // more than the batches under way take
	for i := range failed {
		all.Go(func() { failed[i] = n.Publish(ctx, "k", struct{}{}) })
	}
	all.Wait()
	certain := 0
	for _, err := range failed {
		var e *notification.PublishError
		require.ErrorAs(t, err, &e)
		if !e.Uncertain {
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			certain++
		}
	}
	assert.Positive(t, certain, "what waited for a batch was never sent")
}

func TestJournalIsCappedAndExpires(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client, notification.WithHistory(100, time.Minute), notification.WithKeyPrefix("app:"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 1000))
	length, err := client.XLen(t.Context(), "app:{notification}:journal").Result()
	require.NoError(t, err)
	assert.GreaterOrEqual(t, length, int64(100))
	assert.Less(t, length, int64(300), "trimmed in whole nodes of the stream")
	ttl, err := client.TTL(t.Context(), "app:{notification}:journal").Result()
	require.NoError(t, err)
	assert.InDelta(t, time.Minute, ttl, float64(20*time.Second))
}

func TestJournalAlwaysExpires(t *testing.T) {
	t.Parallel()
	const journal = "cache:{notification}:journal"
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	publish := map[string]func() error{
		"alone": func() error { return n.Publish(t.Context(), "k", numbered{1}) },
		"batch": func() error {
			return n.PublishBatch(t.Context(), notification.To("k", numbered{1}), notification.To("k", numbered{2}))
		},
	}
	for name, publish := range publish {
		require.NoError(t, publish(), name)
		require.NoError(t, client.Del(t.Context(), journal).Err())
		// The publisher has set the time to live a moment ago and knows nothing of a new journal.
		require.NoError(t, publish(), name)
		assert.Positive(t, client.PTTL(t.Context(), journal).Val(), name)
	}
}

func TestJournalLivesOnWithLaterEvents(t *testing.T) {
	t.Parallel()
	const journal = "cache:{notification}:journal"
	client := redistest.Start(t).Client(t)
	r := record(t, subscribe(t, newSystem(t, client), "*"))
	for i := range 3 {
		// A new publisher does not know when the journal was given its time, so it does that with its first event.
		n := newSystem(t, client)
		require.NoError(t, n.Publish(t.Context(), "k", numbered{2*i + 1}))
		assert.Greater(t, client.PTTL(t.Context(), journal).Val(), time.Hour)
		require.NoError(t, client.PExpire(t.Context(), journal, time.Minute).Err())
		require.NoError(t, n.Publish(t.Context(), "k", numbered{2*i + 2}))
		assert.LessOrEqual(t, client.PTTL(t.Context(), journal).Val(), time.Minute, "it was set a moment ago")
	}
	r.reached(t, 6)
	for i, m := range r.received() {
		assert.Equal(t, "k", m.Channel, "message %d", i)
	}
}

func TestBatchWithoutHistoryIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := newSystem(t, server.Client(t), notification.WithHistory(0, 0), notification.WithHeartbeat(time.Hour))
	r := record(t, subscribe(t, n, "k*"))
	p := &publisher{system: n}
	require.Zero(t, p.publish(t.Context(), "k", 1)) // the script is loaded now
	server.ResetCommands(t)
	var batch []notification.Outgoing
	for i := range 100 {
		batch = append(batch, notification.To("k", numbered{i + 2}))
	}
	require.NoError(t, n.PublishBatch(t.Context(), batch...))
	r.reached(t, 101)
	assert.EqualValues(t, 1, server.Commands(t)["evalsha"])
	require.Len(t, r.messages, 101)
	assert.NotEqual(t, r.messages[0].EventID, r.messages[100].EventID)
}

// A master that was made a replica answers, but refuses. That is a failover, not a refusal for good.
func TestPublishFollowsTheMaster(t *testing.T) {
	t.Parallel()
	for name, count := range map[string]int{"alone": 1, "batch": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, after := redistest.Start(t), redistest.Start(t)
			client, target := switched(t, before.Addr())
			n := newSystem(t, client)
			require.NoError(t, n.Publish(t.Context(), "k", numbered{1}))
			require.NoError(t, before.Client(t).Do(t.Context(), "replicaof", after.Host(), after.Port()).Err())
			addr := after.Addr()
			target.Store(&addr)
			var batch []notification.Outgoing
			for i := range count {
				batch = append(batch, notification.To("k", numbered{i}))
			}
			require.NoError(t, n.PublishBatch(t.Context(), batch...))
			assert.EqualValues(t, count, after.Client(t).XLen(t.Context(), "cache:{notification}:journal").Val())
		})
	}
}

func TestSystemsWithOtherPrefixesShareChannelsOnly(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	a := newSystem(t, client)
	const heartbeat = 500 * time.Millisecond // three without an answer are a reconnect, also on a machine that stands still
	b := newSystem(t, client, notification.WithKeyPrefix("b:"), notification.WithHeartbeat(heartbeat))
	s := subscribe(t, b, "k*")
	pa, pb := &publisher{system: a}, &publisher{system: b}
	for begin := time.Now(); time.Since(begin) < 4*heartbeat; { // so that some heartbeats fall in between
		require.Zero(t, pa.publish(t.Context(), "k", 1))
		require.Zero(t, pb.publish(t.Context(), "k", 1))
		for _, ours := range []bool{false, true} {
			m := next(t, s)
			assert.Equal(t, ours, m.EventID != "", "IDs have a meaning in their own journal only")
			assert.Nil(t, m.Gap)
		}
	}
	assert.Zero(t, b.GetMetrics().Reconnects, "IDs of another journal say nothing about ours")
}

// Channels know no databases, but each database has its own journal.
func TestSystemsInOtherDatabasesShareChannelsOnly(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	const heartbeat = 500 * time.Millisecond // three without an answer are a reconnect, also on a machine that stands still
	client := server.Client(t)
	a := newSystem(t, client, notification.WithHeartbeat(heartbeat))
	options := server.Options()
	options.DB = 1
	other := redis.NewClient(options)
	t.Cleanup(func() { _ = other.Close() })
	b := newSystem(t, other)
	beats := client.PSubscribe(t.Context(), heartbeatPrefix+"*")
	t.Cleanup(func() { _ = beats.Close() })
	s := subscribe(t, a, "k*")
	require.NoError(t, a.Publish(t.Context(), "k", numbered{1}))
	require.NoError(t, b.Publish(t.Context(), "k", numbered{2}))
	for _, ours := range []bool{true, false} {
		m := next(t, s)
		assert.Equal(t, ours, m.EventID != "")
		assert.Nil(t, m.Gap)
	}
	for range 5 {
		_, err := beats.ReceiveTimeout(t.Context(), patience)
		require.NoError(t, err)
	}
	require.NoError(t, a.Publish(t.Context(), "k", numbered{3}))
	assert.Nil(t, next(t, s).Gap)
	assert.Zero(t, a.GetMetrics().Reconnects, "IDs of another journal say nothing about ours")
	assert.EqualValues(t, 2, client.XLen(t.Context(), journalKey).Val())
}

func TestBatchJoinsErrors(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	n := newSystem(t, client)
	require.NoError(t, n.PublishBatch(t.Context()))
	err := n.PublishBatch(t.Context(), notification.To("a", numbered{1}), nil)
	require.ErrorIs(t, err, notification.ErrInvalidArgument)
	assert.Zero(t, client.Exists(t.Context(), "cache:{notification}:journal").Val(), "nothing was sent")
	require.NoError(t, client.Set(t.Context(), "cache:{notification}:journal", "x", 0).Err())
	err = n.PublishBatch(t.Context(), notification.To("a", numbered{1}), notification.To("b", numbered{2}))
	var failed *notification.PublishError
	require.ErrorAs(t, err, &failed)
	var joined interface{ Unwrap() []error }
	require.ErrorAs(t, err, &joined)
	assert.Len(t, joined.Unwrap(), 2)
}

// A batch may fail in part, and its caller has to know which part.
func TestBatchTellsWhichEventsFailed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := newSystem(t, limited(t, server, "resetchannels", "&allowed"))
	var batch []notification.Outgoing
	for i := range 300 { // several scripts
		channel := "allowed"
		if i%100 == 7 {
			channel = "forbidden"
		}
		batch = append(batch, notification.To(channel, numbered{i}))
	}
	var failed []int
	for _, err := range each(t, n.PublishBatch(t.Context(), batch...), 3) {
		var e *notification.PublishError
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "forbidden", e.Channel)
		failed = append(failed, e.Index)
	}
	assert.Equal(t, []int{7, 107, 207}, failed)

	for argument, wrong := range map[string]notification.Outgoing{
		"events[1]":         nil,
		"events[1].channel": notification.To("", numbered{}),
		"events[1].v":       notification.To("allowed", 1),
		"events[1].ID":      &notification.TaskEvent{},
		"events[1].Data":    &notification.WorkflowEvent{ID: "1", Data: func() {}},
	} {
		err := n.PublishBatch(t.Context(), batch[0], wrong)
		var e *notification.ArgumentError
		require.ErrorAs(t, err, &e, argument)
		assert.Equal(t, argument, e.Argument)
		require.ErrorIs(t, err, notification.ErrInvalidArgument)
	}
	var absent *notification.WorkflowEvent
	assert.ErrorContains(t, n.PublishBatch(t.Context(), absent), "events[0] is nil")
}
