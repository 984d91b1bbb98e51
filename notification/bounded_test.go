package notification_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

type redisOptions = redis.Options

func newClient(t *testing.T, o *redis.Options) *redis.Client {
	t.Helper()
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// fieldOf returns a field of what INFO says.
func fieldOf(info, name string) string {
	_, rest, _ := strings.Cut(info, "\n"+name+":")
	value, _, _ := strings.Cut(rest, "\r\n")
	return value
}

func output(t *testing.T, client *redis.Client) int {
	t.Helper()
	n, err := strconv.Atoi(fieldOf(client.Info(t.Context(), "stats").Val(), "total_net_output_bytes"))
	require.NoError(t, err)
	return n
}

// Events of a megabyte that were published during a cut are recovered in parts that hold up nobody.
func TestRecoveryOfLargeEvents(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ events, size int }{"300 of a megabyte": {300, 1 << 20}, "500 of 200 KB": {500, 200 << 10}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			client, proxy := through(t, server)
			opts := []notification.Option{notification.WithHistoryBytes(1 << 30), notification.WithMaxEventSize(2 << 20)}
			n, outside := newSystem(t, client, opts...), newSystem(t, server.Client(t), opts...)
			s := subscribe(t, n, "k")
			proxy.Refuse(true)
			proxy.Cut()
			filling := strings.Repeat("x", test.size)
			for i := range test.events {
				require.NoError(t, outside.Publish(t.Context(), "k", map[string]any{"n": i, "x": filling}))
			}
			admin := server.Client(t)
			require.NoError(t, admin.ConfigSet(t.Context(), "slowlog-log-slower-than", "100000").Err())
			require.NoError(t, admin.Do(t.Context(), "slowlog", "reset").Err())
			proxy.Refuse(false)
			for i := range test.events {
				m := next(t, s)
				require.True(t, strings.HasSuffix(m.Payload[:200], "x"))
				require.Contains(t, m.Payload[:200], `"n":`+strconv.Itoa(i)+",")
				require.Nil(t, m.Gap)
			}
			slow, err := admin.SlowLogGet(t.Context(), -1).Result()
			require.NoError(t, err)
			for _, command := range slow {
				assert.NotEqual(t, "xrange", strings.ToLower(command.Args[0]), "%v", command.Duration)
			}
		})
	}
}

// Many who resume from the same event, or from others, cost the server about one pass over the journal.
func TestManyThatResumeShareOnePass(t *testing.T) {
	t.Parallel()
	const events, subscribers = 10_000, 200
	server := redistest.Start(t)
	client := server.Client(t)
	n := newSystem(t, client, notification.WithHistory(2*events, 0))
	var batch []notification.Outgoing
	for i := range events {
		batch = append(batch, notification.To("k", numbered{i + 1}))
	}
	require.NoError(t, n.PublishBatch(t.Context(), batch...))
	live := record(t, subscribe(t, n, "k"))
	pass := output(t, client)
	require.NoError(t, client.XRange(t.Context(), journalKey, "-", "+").Err())
	pass = output(t, client) - pass

	server.ResetCommands(t) // and bytes
	var all []*recorder
	for range subscribers {
		all = append(all, record(t, n.SubscribeFrom(t.Context(), "k", "")))
	}
	for _, r := range all {
		r.reached(t, events)
	}
	parts := server.Commands(t)["xrange"]
	used := output(t, client)
	t.Logf("%d parts, %d bytes, %d in one pass", parts, used, pass)
	assert.Less(t, parts, int64(events), "some for each part, and one for each event of a few")
	assert.Less(t, used, 2*pass)
	p := &publisher{system: n, last: events}
	for i := range events {
		p.sent = append(p.sent, i+1)
	}
	require.Zero(t, p.publish(t.Context(), "k", 100))
	for _, r := range append(all, live) {
		r.reached(t, p.last)
	}
	for i, r := range all {
		assert.Len(t, r.numbers, len(p.sent))
		assert.Empty(t, r.gaps())
		if i%20 == 0 { // it takes its time
			assert.Zero(t, r.verify(t, p.sent))
		}
	}
	assert.Zero(t, live.verify(t, p.sent[events:]))
}

// Traffic does not keep those who resume from catching up.
func TestManyThatResumeUnderTraffic(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := newSystem(t, server.Client(t))
	p := &publisher{system: newSystem(t, server.Client(t))}
	require.Zero(t, p.publish(t.Context(), "k", 5000))
	stop := p.traffic(t)
	var all []*recorder
	for range 50 { // each of which decodes what it gets
		all = append(all, record(t, n.SubscribeFrom(t.Context(), "k", "")))
	}
	require.Eventually(t, func() bool { return gauge(t, n, "replaying_subscribers") == 0 }, 2*patience, 5*time.Millisecond)
	stop()
	for i, r := range all {
		r.reached(t, p.sent[len(p.sent)-1])
		assert.Contains(t, []int{len(p.sent), len(p.sent) + 1}, len(r.numbers), "the last call may have been cut short, and have published")
		assert.Empty(t, r.gaps())
		if i%10 == 0 { // it takes its time
			assert.Zero(t, r.verify(t, p.sent))
		}
	}
}

// An idle journal that expired at the very event that a subscriber goes on behind has lost nothing.
func TestResumingBehindTheLastEventOfAnExpiredJournal(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	p := &publisher{system: newSystem(t, client)}
	require.Zero(t, p.publish(t.Context(), "k", 5))
	entries := client.XRange(t.Context(), journalKey, "-", "+").Val()
	require.NoError(t, client.Del(t.Context(), journalKey).Err())
	n := newSystem(t, client)
	last := record(t, n.SubscribeFrom(t.Context(), "k", entries[4].ID))
	last.after = entries[4].ID
	earlier := record(t, n.SubscribeFrom(t.Context(), "k", entries[3].ID))
	earlier.after = entries[3].ID
	require.Zero(t, p.publish(t.Context(), "k", 5))
	for _, r := range []*recorder{last, earlier} {
		r.reached(t, p.last)
	}
	assert.Zero(t, last.verify(t, p.sent[5:]))
	assert.Empty(t, last.gaps())
	assert.Equal(t, 1, earlier.verify(t, p.sent[4:]))
	assert.Equal(t, []notification.GapReason{notification.GapTrimmed}, earlier.gaps())
}

// One wipe is reported once, whatever follows it. On a busy machine a connection with such quick heartbeats may take some
// attempts, and a subscription that is not confirmed in time begins later.
func TestWipeIsToldOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := through(t, server)
	n := newSystem(t, client, notification.WithHeartbeat(100*time.Millisecond), notification.WithPingTimeout(patience))
	admin := server.Client(t)
	r, p := record(t, subscribe(t, n, "k")), &publisher{system: newSystem(t, admin)}
	require.Zero(t, p.publish(t.Context(), "k", 5))
	r.reached(t, p.last)
	proxy.Refuse(true)
	proxy.Cut()
	require.NoError(t, admin.FlushAll(t.Context()).Err())
	proxy.Refuse(false)
	assert.Equal(t, notification.GapWiped, told(t, r.sub).Reason)
	for range 3 {
		cut(t, n, admin)
		require.Zero(t, p.publish(t.Context(), "k", 5))
		require.NoError(t, r.sub.Drain(t.Context()))
	}
	r.reached(t, p.last)
	assert.Zero(t, r.verify(t, p.sent))
	assert.Equal(t, []notification.GapReason{notification.GapWiped}, r.gaps())
}
