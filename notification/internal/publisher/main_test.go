package publisher

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification/internal/journal"
)

func TestMain(m *testing.M) { redistest.VerifyTestMain(m) }

// patience is how long a test waits for what should take milliseconds, on a busy machine.
const patience = 20 * time.Second

// newPublisher returns a publisher with the defaults of package notification, or what a test makes of them.
func newPublisher(client redis.UniversalClient, change ...func(*Settings)) *Publisher {
	set := Settings{
		Client: client, Keys: journal.NewKeys(journal.DefaultKeyPrefix, "", 0), MaxEventSize: 1 << 20,
		History: 10_000, HistoryTTL: time.Hour, HistoryBytes: 64 << 20,
	}
	for _, f := range change {
		f(&set)
	}
	return New(set)
}

// impatient returns a client that goes through an address and waits for no more than the time given.
func impatient(t *testing.T, addr string, timeout time.Duration, change ...func(*redis.Options)) *redis.Client {
	t.Helper()
	options := &redis.Options{
		Addr: addr, ReadTimeout: timeout, PoolSize: 1, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	for _, f := range change {
		f(options)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// events encodes some events for a channel that have a string of so many bytes.
func events(t *testing.T, p *Publisher, channel string, count, bytes int) []*Event {
	t.Helper()
	all := make([]*Event, count)
	for i := range all {
		all[i] = &Event{Index: i}
		all[i].To(channel)
		require.NoError(t, p.Encode(t.Context(), all[i], map[string]string{"v": strings.Repeat("x", bytes)}, false))
	}
	return all
}

// publish publishes an event by itself, or several together.
func publish(t *testing.T, p *Publisher, channel string, count, bytes int) error {
	t.Helper()
	return send(t.Context(), p, events(t, p, channel, count, bytes))
}

func send(ctx context.Context, p *Publisher, all []*Event) error {
	if len(all) == 1 {
		return p.Publish(ctx, all[0])
	}
	return p.PublishAll(ctx, all, func() {})
}

// read returns all entries of the journal.
func read(t *testing.T, client redis.UniversalClient, p *Publisher) []journal.Entry {
	t.Helper()
	rows, err := client.Do(t.Context(), "xrange", p.set.Keys.Journal, "-", "+").Slice()
	require.NoError(t, err)
	entries := make([]journal.Entry, len(rows))
	for i, row := range rows {
		entries[i], err = journal.ParseEntry(row)
		require.NoError(t, err)
	}
	return entries
}

// length returns how many entries the journal has.
func length(t *testing.T, client redis.UniversalClient, p *Publisher) int {
	t.Helper()
	n, err := client.XLen(t.Context(), p.set.Keys.Journal).Result()
	require.NoError(t, err)
	return int(n)
}

// state returns a field of the state beside the journal.
func state(t *testing.T, client redis.UniversalClient, p *Publisher, field string) string {
	t.Helper()
	value, err := client.HGet(t.Context(), p.set.Keys.State, field).Result()
	require.NoError(t, err)
	return value
}
