package feed_test

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification/internal/feed"
)

// fullBeat is what a journal would send: a script that reads keys.
func fullBeat(ctx context.Context, c redis.UniversalClient, channel string, number uint64) error {
	const script = `redis.call('MGET', KEYS[1], KEYS[2]) return redis.call('PUBLISH', ARGV[1], ARGV[2] .. '\nfull')`
	return c.Eval(ctx, script, []string{key, otherKey}, channel, number).Err()
}

func withFullBeats(s *feed.Settings) { s.Beat = fullBeat }

// number returns the number of a heartbeat, from the line that a recorder has of it.
func numberOf(t *testing.T, line string) uint64 {
	t.Helper()
	text, err := strconv.Unquote(strings.SplitN(line, " ", 3)[2])
	require.NoError(t, err)
	digits, _, _ := strings.Cut(text, "\n")
	number, err := strconv.ParseUint(digits, 10, 64)
	require.NoError(t, err)
	return number
}

// A heartbeat that somebody waits for is not the one of the next interval, and many share one.
func TestBeatSoon(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f, sink := start(t, server.Client(t), func(s *feed.Settings) { s.Heartbeat = time.Hour })
	assert.LessOrEqual(t, f.BeatSoon(), numberOf(t, sink.wait(t, 1, "beat")))
	sink.wait(t, 1, "up")
	for range 5 {
		before := sink.count("beat")
		var number uint64
		for range 1000 {
			number = f.BeatSoon()
		}
		for n := before + 1; numberOf(t, sink.wait(t, n, "beat")) < number; n++ {
			continue
		}
		assert.LessOrEqual(t, sink.count("beat"), before+100, "callers share them")
	}
}

// A user may lack what a full heartbeat needs. That the connection works is still known, and full ones come as soon as they
// are allowed.
func TestFullBeatRefused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := limited(t, server, "-mget")
	_, sink := start(t, client, func(s *feed.Settings) {
		s.Beat, s.Needs, s.Heartbeat = fullBeat, "MGET", 100*time.Millisecond
	})
	sink.wait(t, 1, "up 1")
	sink.wait(t, 5, "beat 1")
	assert.NotContains(t, sink.wait(t, 5, "beat 1"), "full")
	blind := sink.logs.FilterMessageSnippet("the state of the journal cannot be read").All()
	require.Len(t, blind, 1, "once for each session")
	assert.Equal(t, "MGET", blind[0].ContextMap()["needed"])
	require.NoError(t, server.Client(t).Do(t.Context(), "acl", "setuser", "limited", "+mget").Err())
	for n := 6; !strings.HasSuffix(sink.wait(t, n, "beat 1"), `\nfull"`); n++ {
		continue
	}
	assert.Empty(t, sink.all("down"))
}

// A user who may not have heartbeats has no connection that could be relied on: the session ends, and Status says why. The
// names he may listen to wait for the permission.
func TestBeatsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ rules, grant []any }{
		"to listen":  {[]any{"resetchannels", "&a"}, []any{"&" + channel + "*"}},
		"to publish": {[]any{"-publish"}, []any{"+publish"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			f, sink := start(t, limited(t, server, test.rules...), withFullBeats, names("a")...)
			require.Eventually(t, func() bool {
				cause := f.Status().Cause
				return cause != nil && strings.Contains(cause.Error(), `heartbeat`)
			}, patience, time.Millisecond)
			cause := f.Status().Cause
			require.ErrorContains(t, cause, `"`+channel)
			require.ErrorContains(t, cause, "refused: NOPERM")
			assert.False(t, f.Status().Up)
			assert.Empty(t, sink.all("up"))
			assert.Empty(t, sink.all("refused"))
			require.NoError(t, server.Client(t).Do(t.Context(), append([]any{"acl", "setuser", "limited"}, test.grant...)...).Err())
			sink.wait(t, 1, "up")
			assert.Equal(t, 1, f.Names())
		})
	}
}

// slow is a connection that brings no more than some bytes at a time.
type slow struct{ net.Conn }

const (
	slowPiece = 4 << 10
	slowPause = 10 * time.Millisecond
)

func (c slow) Read(p []byte) (int, error) {
	<-time.After(slowPause)
	return c.Conn.Read(p[:min(len(p), slowPiece)])
}

// A heartbeat may be behind messages that take longer to arrive than a dead peer is waited for.
func TestBeatsBehindLargeMessages(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	options := server.Options()
	options.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return slow{conn}, err
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	_, sink := start(t, client, func(s *feed.Settings) { s.Heartbeat = 300 * time.Millisecond }, names("a")...)
	sink.wait(t, 1, "up")
	number := sink.current().Number
	const size = 1 << 20
	admin := server.Client(t)
	began := time.Now()
	for range 2 {
		require.NoError(t, admin.Publish(t.Context(), "a", strings.Repeat("x", size)).Err())
	}
	assert.Contains(t, sink.wait(t, 2, "message"), strconv.Itoa(size)+" bytes")
	t.Logf("they took %v", time.Since(began).Round(time.Millisecond))
	beats := sink.count("beat")
	sink.wait(t, beats+1, "beat")
	assert.Empty(t, sink.all("down"))
	assert.Equal(t, number, sink.current().Number)
}

// What an idle process costs the server.
func TestIdleCost(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	_, sink := start(t, server.Client(t), func(s *feed.Settings) { s.Heartbeat = 200 * time.Millisecond }, names("a", "b")...)
	sink.wait(t, 3, "beat")
	server.ResetCommands(t)
	before := sink.count("beat")
	sink.wait(t, before+10, "beat")
	total := int64(0)
	commands := server.Commands(t)
	for _, calls := range commands {
		total += calls
	}
	assert.LessOrEqual(t, total, int64(15), "one for each heartbeat: %v", commands)
	assert.Zero(t, sink.logs.FilterLevelExact(zap.WarnLevel).Len())
}
