package server_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/batch"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/server"
)

func TestMain(m *testing.M) { redistest.VerifyTestMain(m) }

const patience = 20 * time.Second

// on returns what is tested, on a client.
func on(client redis.UniversalClient) *server.Redis {
	return server.New(client, server.Settings{Timeout: patience, Patience: patience, Go: func(f func()) { go f() }})
}

func setup(t *testing.T) (*redistest.Server, *redis.Client, *server.Redis) {
	t.Helper()
	s := redistest.Start(t)
	c := redis.NewClient(&redis.Options{
		Addr: s.Addr(), ContextTimeoutEnabled: true, ReadTimeout: patience,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = c.Close() })
	return s, c, on(c)
}

// put is a write of the value "k" of a Cache.
func put() server.Put {
	return server.Put{
		Key: "k", Lease: "lease:k", Kind: entry.Value, Codec: 'j', Compression: '-', Payload: []byte("1"),
		Write: entry.NewID(), Version: server.Any, TTL: time.Hour, Keep: time.Minute,
	}
}

func TestValuesOfACache(t *testing.T) {
	t.Parallel()
	_, c, r := setup(t)
	ctx := t.Context()
	require.NoError(t, c.Set(ctx, "lease:k", "token", 0).Err())
	p := put()
	p.Tags = "a=1"
	reply := r.Put(ctx, p)
	require.Equal(t, server.Written, reply.Outcome, reply.Err)
	assert.Equal(t, reply.Now, reply.Version)
	assert.Zero(t, c.Exists(ctx, "lease:k").Val(), "nothing that is loaded now may be stored")
	content := r.Read(ctx, "k", 1)
	require.NoError(t, content.Err)
	e, err := entry.Parse(content.Raw)
	require.NoError(t, err)
	assert.Equal(t, entry.Entry{
		Kind: entry.Value, Codec: 'j', Compression: '-', Version: reply.Version, Until: reply.Now + time.Hour.Microseconds(), TTL: time.Hour,
		Write: p.Write, Tags: "a=1", Payload: []byte("1"),
	}, e)
	assert.InDelta(t, 61*60, c.TTL(ctx, "k").Val().Seconds(), 2, "beyond its TTL, for when nothing better is there")

	absent := put()
	absent.Kind, absent.Codec, absent.Payload = entry.Absent, '-', nil
	require.Equal(t, server.Written, r.Put(ctx, absent).Outcome)
	require.Equal(t, server.Written, r.Put(ctx, put()).Outcome)

	require.Equal(t, server.Enough, r.Touch(ctx, server.Touch{Key: "k", Kind: entry.Value, Codec: 'j', TTL: server.KeepTTL}).Outcome)
	require.Equal(t, server.Written, r.Touch(ctx, server.Touch{Key: "k", Kind: entry.Value, Codec: 'j', TTL: 2 * time.Hour}).Outcome)
	require.Equal(t, server.NotFound, r.Touch(ctx, server.Touch{Key: "none", Kind: entry.Value, Codec: 'j'}).Outcome)

	require.NoError(t, c.Set(ctx, "lease:k", "token", 0).Err())
	require.Equal(t, server.Foreign, r.Drop(ctx, drop('m')).Outcome)
	require.Equal(t, server.Written, r.Drop(ctx, drop('j')).Outcome)
	assert.Zero(t, c.Exists(ctx, "k", "lease:k").Val())
	require.Equal(t, server.Written, r.Drop(ctx, drop('j')).Outcome)

	state := put()
	state.Kind, state.Lease = entry.State, ""
	require.Equal(t, server.Written, r.Put(ctx, state).Outcome)
	require.Equal(t, server.Foreign, r.Put(ctx, put()).Outcome)
	require.Equal(t, server.Foreign, r.Drop(ctx, drop('j')).Outcome)
	require.Equal(t, server.Written, r.Delete(ctx, server.Delete{Key: "k", Codec: 'j', Write: "w", Version: server.Any, Remember: time.Second}).Outcome)
	require.Equal(t, server.Foreign, r.Put(ctx, put()).Outcome, "what a State deleted is its own, too")
}

// TestUnknownScripts: a server that forgets its scripts is given them again.
func TestUnknownScripts(t *testing.T) {
	t.Parallel()
	_, c, r := setup(t)
	for range 2 {
		require.Equal(t, server.Written, r.Put(t.Context(), put()).Outcome)
		require.NoError(t, c.ScriptFlush(t.Context()).Err())
	}
}

// TestReadMany: in the order of the keys, however many there are, and with all that may be there.
func TestReadMany(t *testing.T) {
	t.Parallel()
	s, c, r := setup(t)
	ctx := t.Context()
	var keys []string
	for i := range 1203 {
		key := fmt.Sprint(i)
		keys = append(keys, key)
		switch i % 4 {
		case 0:
			require.NoError(t, c.Set(ctx, key, key, 0).Err())
		case 1:
			require.NoError(t, c.Set(ctx, key, "", 0).Err())
		case 2:
			require.NoError(t, c.LPush(ctx, key, key).Err())
		}
	}
	check := func(contents []server.Content, tellsTypes bool) {
		t.Helper()
		require.Len(t, contents, len(keys))
		for i, content := range contents {
			var want server.Content
			switch i % 4 {
			case 0:
				want.Raw = []byte(keys[i])
			case 1:
				want.Raw = []byte{}
			case 2:
				if tellsTypes {
					want.Err = entry.ErrForeign
				}
			}
			assert.Positive(t, content.Now)
			content.Now = 0
			require.Equal(t, want, content)
		}
	}
	s.ResetCommands(t)
	check(r.ReadMany(ctx, keys, 1), false)
	commands := s.Commands(t)
	assert.EqualValues(t, 3, commands["mget"])
	assert.EqualValues(t, 3, commands["time"])
	check(slices.Concat(slices.Collect(r.ReadEach(ctx, keys, patience))...), true)
	assert.Empty(t, r.ReadMany(ctx, nil, 1))
	for i := range 4 {
		content := r.Read(ctx, keys[i], 1)
		assert.Equal(t, i == 2, content.Err != nil)
		assert.Equal(t, i < 2, content.Raw != nil)
	}

	cluster := redistest.StartCluster(t, 3)
	cc := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = cc.Close() })
	for i, key := range keys[:40] {
		switch i % 4 {
		case 0:
			require.NoError(t, cc.Set(ctx, key, key, 0).Err())
		case 1:
			require.NoError(t, cc.Set(ctx, key, "", 0).Err())
		case 2:
			require.NoError(t, cc.LPush(ctx, key, key).Err())
		}
	}
	keys = keys[:40]
	rc := on(cc)
	check(rc.ReadMany(ctx, keys, 1), true) // no server knows the script
	check(slices.Concat(slices.Collect(rc.ReadEach(ctx, keys, patience))...), true)
	require.NoError(t, cluster.Nodes()[1].Client(t).ScriptFlush(ctx).Err())
	check(rc.ReadMany(ctx, keys, 1), true)
}

// TestReadsLeaveTogether: those of concurrent callers share a round trip and a look at the clock.
func TestReadsLeaveTogether(t *testing.T) {
	t.Parallel()
	const callers = 200
	s, c, r := setup(t)
	require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
	require.NoError(t, r.Read(t.Context(), "k", 1).Err)
	s.ResetCommands(t)
	s.Stop()
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			content := r.Read(t.Context(), "k", 1)
			assert.NoError(t, content.Err)
			assert.Equal(t, "v", string(content.Raw))
		})
	}
	<-time.After(50 * time.Millisecond) // most have come by then; if not, there are more batches
	s.Continue()
	all.Wait()
	commands := s.Commands(t)
	assert.EqualValues(t, callers, commands["get"])
	assert.Less(t, commands["time"], int64(callers/2))
}

// TestEndOfContexts: a caller that gives up knows whether its command may have been sent.
func TestEndOfContexts(t *testing.T) {
	t.Parallel()
	s, _, r := setup(t)
	require.Equal(t, server.Written, r.Put(t.Context(), put()).Outcome)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	var abandoned *batch.AbandonedError
	require.ErrorAs(t, r.Read(over, "k", 1).Err, &abandoned)
	assert.False(t, abandoned.Sent)
	require.Equal(t, server.Failed, r.Put(over, put()).Outcome)
	for _, err := range r.Scan(over, "*", patience) {
		require.ErrorIs(t, err, context.Canceled)
	}
	require.ErrorIs(t, r.Ping(over), context.Canceled)
	s.Stop()
	defer s.Continue()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Equal(t, server.Uncertain, r.Put(short, put()).Outcome)
	require.Error(t, r.Read(short, "k", 1).Err)
	for _, content := range r.ReadMany(short, []string{"a", "b"}, 1) {
		require.Error(t, content.Err)
	}
}

func TestScan(t *testing.T) {
	t.Parallel()
	_, c, r := setup(t)
	ctx := t.Context()
	strange := []string{`\`, "*", "?", "[a-z]", "[", "]", "^", "-", "a\nb", "\x00", "\xff", "{a}", `\*`}
	for _, key := range strange {
		require.NoError(t, c.Set(ctx, key, "x", 0).Err())
		require.NoError(t, c.Set(ctx, key+"more", "x", 0).Err())
	}
	found := func(pattern string) (keys []string) {
		for page, err := range r.Scan(ctx, pattern, patience) {
			require.NoError(t, err)
			keys = append(keys, page...)
		}
		return keys
	}
	for _, key := range strange {
		assert.Equal(t, []string{key}, found(server.Escape(key)))
		assert.Subset(t, found(server.Escape(key)+"*"), []string{key, key + "more"})
	}
	assert.Len(t, found("*"), 2*len(strange))
	for range 3000 {
		require.NoError(t, c.Set(ctx, "many"+entry.NewID(), "x", 0).Err())
	}
	pages := 0
	for page, err := range r.Scan(ctx, "many*", patience) {
		require.NoError(t, err)
		assert.Less(t, len(page), 1000)
		if pages++; pages == 3 {
			break
		}
	}
	assert.Equal(t, 3, pages)
}

// TestWriteIDs: there are no two alike, and scripts can store them.
func TestWriteIDs(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 10_000 {
		id := entry.NewID()
		require.Len(t, id, 16)
		require.Empty(t, strings.Trim(id, "0123456789abcdef"))
		require.False(t, seen[id])
		seen[id] = true
	}
}

// TestSlowDials: a write that no try could send has failed, and is not uncertain because the time ends during a try.
func TestSlowDials(t *testing.T) {
	t.Parallel()
	c := redis.NewClient(&redis.Options{
		ContextTimeoutEnabled: true, DialerRetries: 1,
		Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
			select {
			case <-time.After(300 * time.Millisecond):
				return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("nobody is there")}
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = c.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 800*time.Millisecond)
	defer cancel()
	reply := on(c).Put(ctx, put())
	require.Equal(t, server.Failed, reply.Outcome)
	require.ErrorContains(t, reply.Err, "nobody is there")
}

// TestLargeValuesAreDroppedUnread: a server that reads them does nothing else meanwhile.
func TestLargeValuesAreDroppedUnread(t *testing.T) {
	t.Parallel()
	s, c, r := setup(t)
	ctx := t.Context()
	for tags, reads := range map[string]int64{"a=1": 1, strings.Repeat("a", 2000) + "=1": 2} { // the lease is read as well
		p := put()
		p.Payload, p.Tags = []byte(strings.Repeat("x", 1<<20)), tags
		require.Equal(t, server.Written, r.Put(ctx, p).Outcome)
		require.Equal(t, server.Foreign, r.Drop(ctx, drop('m')).Outcome)
		s.ResetCommands(t)
		require.Equal(t, server.Written, r.Drop(ctx, drop('j')).Outcome)
		assert.Equal(t, reads, s.Commands(t)["get"])
		assert.Zero(t, c.Exists(ctx, "k").Val())
	}
}

// drop deletes the value that put makes, of a codec.
func drop(codec byte) server.Drop { return server.Drop{Key: "k", Lease: "lease:k", Codec: codec} }
