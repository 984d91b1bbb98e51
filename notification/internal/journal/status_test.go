package journal

import (
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// Each runs on a real server and on the one of package embedded.
func onBoth(t *testing.T, test func(t *testing.T, client *redis.Client)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, redistest.Start(t).Client(t))
	})
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
		t.Cleanup(func() { _ = client.Close() })
		test(t, client)
	})
}

func TestStatus(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, client *redis.Client) {
		t.Helper()
		j, on, w := setup(client)
		beat := func() Status {
			s, err := j.Beat(t.Context(), on, "t:beats", 7)
			require.NoError(t, err)
			return s
		}
		empty := beat()
		assert.NotEmpty(t, empty.Epoch)
		assert.EqualValues(t, 7, empty.Beat)
		assert.Zero(t, empty.Offset)
		assert.Zero(t, empty.Last)
		assert.True(t, empty.End().IsZero())
		w.append(t, 10)
		last := w.append(t, 10)
		s := beat()
		assert.Equal(t, empty.Epoch, s.Epoch, "it began when it was first asked for")
		assert.Equal(t, last.Offset, s.Offset)
		assert.Equal(t, last, s.Last.Pos)
		assert.Equal(t, last.String(), s.Last.ID)
		_, err := time.Parse(time.RFC3339Nano, s.Last.Stamp)
		require.NoError(t, err)
		assert.Equal(t, 2, s.Length)
		assert.Equal(t, last, s.End())

		require.NoError(t, client.Del(t.Context(), j.keys.State).Err())
		evicted := beat()
		assert.NotEqual(t, s.Epoch, evicted.Epoch)
		assert.Equal(t, last.Offset, evicted.Offset, "the journal itself knows it")
		next := w.append(t, 10)
		assert.Greater(t, next.Offset, last.Offset)

		require.NoError(t, client.Del(t.Context(), j.keys.Journal).Err())
		expired := beat()
		assert.Equal(t, evicted.Epoch, expired.Epoch)
		assert.Zero(t, expired.Length)
		assert.Equal(t, Position{Offset: next.Offset}, expired.End())
		assert.Equal(t, Envelope{Pos: expired.End()}, expired.Cursor())
	})
}

// A state without an offset, and one that somebody else has begun.
func TestStatusOfABrokenState(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, client *redis.Client) {
		t.Helper()
		j, on, w := setup(client)
		p := w.append(t, 10)
		require.NoError(t, client.HDel(t.Context(), j.keys.State, "offset").Err())
		require.NoError(t, client.HSet(t.Context(), j.keys.State, "epoch", "e").Err())
		now := look(t, j, on, Known{})
		assert.Equal(t, "e", now.Epoch)
		assert.Equal(t, p.Offset, now.Offset)
		// A publisher that found no state has counted, but not named it.
		require.NoError(t, client.Del(t.Context(), j.keys.State).Err())
		require.NoError(t, client.HSet(t.Context(), j.keys.State, "offset", p.Offset).Err())
		now = look(t, j, on, Known{})
		assert.NotEmpty(t, now.Epoch)
		assert.Equal(t, p.Offset, now.Offset)
		// Entries of others.
		require.NoError(t, client.XAdd(t.Context(), &redis.XAddArgs{Stream: j.keys.Journal, Values: []any{"a", "b"}}).Err())
		now = look(t, j, on, Known{})
		assert.Equal(t, 2, now.Length)
		assert.Empty(t, now.Last.Stamp)
	})
}

func TestHeartbeatsCarryTheStatus(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, client *redis.Client) {
		t.Helper()
		j, on, w := setup(client)
		w.append(t, 10)
		beats := client.Subscribe(t.Context(), "t:beats")
		defer beats.Close()
		_, err := beats.Receive(t.Context())
		require.NoError(t, err)
		on.Listened = "t:beats"
		sent, err := j.Beat(t.Context(), on, "t:beats", 3)
		require.NoError(t, err)
		m, err := beats.ReceiveMessage(t.Context())
		require.NoError(t, err)
		received, ok := ParseStatus(m.Payload)
		assert.True(t, ok)
		assert.Equal(t, sent, received)
	})
}

func TestStateIsKeptAlive(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, client *redis.Client) {
		t.Helper()
		j, on, _ := setup(client)
		ttl := func() time.Duration {
			look(t, j, on, Known{})
			return client.PTTL(t.Context(), j.keys.State).Val()
		}
		assert.Greater(t, ttl(), StateTTL-time.Hour)
		client.PExpire(t.Context(), j.keys.State, StateTTL/2+time.Hour)
		assert.Less(t, ttl(), StateTTL-time.Hour, "that costs nothing while there is time")
		client.PExpire(t.Context(), j.keys.State, StateTTL/2-time.Hour)
		assert.Greater(t, ttl(), StateTTL-time.Hour)
		client.Persist(t.Context(), j.keys.State)
		assert.Greater(t, ttl(), StateTTL-time.Hour)
	})
}

func TestIdentityOfServers(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 2)
	j, on, _ := setup(servers[0].Client(t))
	now := look(t, j, on, Known{})
	assert.Len(t, now.Identity.Run, 40)
	assert.Len(t, now.Identity.Repl, 40)
	assert.Equal(t, "master", now.Identity.Role)
	assert.False(t, now.Identity.LinkDown)
	assert.Equal(t, None, now.Identity.change(look(t, j, on, Known{}).Identity))

	replica := Server{Client: servers[1].Client(t)}
	look(t, j, replica, Known{}) // it has an epoch
	servers[0].Stop()
	require.NoError(t, replica.Client.SlaveOf(t.Context(), servers[0].Host(), servers[0].Port()).Err())
	cut := look(t, j, replica, Known{})
	assert.Equal(t, "slave", cut.Identity.Role)
	assert.True(t, cut.Identity.LinkDown, "it does not have its master's data")
	servers[0].Continue()
	require.Eventually(t, func() bool { return !look(t, j, replica, Known{}).Identity.LinkDown }, 20*time.Second, 10*time.Millisecond)
	assert.Equal(t, now.Epoch, look(t, j, replica, Known{}).Epoch)
}

func TestEmbeddedServerDoesNotTellItsIdentity(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	defer client.Close()
	j, on, _ := setup(client)
	now := look(t, j, on, Known{})
	assert.Empty(t, now.Identity.Repl)
	assert.Equal(t, None, now.Identity.change(look(t, j, on, Known{}).Identity))
}

// A replica that has no state cannot begin one: its master might have another.
func TestReplicaBeginsNoEpoch(t *testing.T) {
	t.Parallel()
	servers := redistest.StartN(t, 2)
	j, on, _ := setup(servers[1].Client(t))
	require.NoError(t, on.Client.SlaveOf(t.Context(), servers[0].Host(), servers[0].Port()).Err())
	_, err := j.Look(t.Context(), on, Known{})
	assert.True(t, IsElsewhere(err), err)
	_, err = j.Beat(t.Context(), on, "t:beats", 1)
	assert.True(t, IsElsewhere(err), err)
}

func TestElsewhere(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, client *redis.Client) {
		t.Helper()
		j, on, w := setup(client)
		w.append(t, 10)
		connections := func() uint32 {
			stats := client.PoolStats()
			if stats.PipelineStats == nil {
				return stats.TotalConns
			}
			return stats.TotalConns + stats.PipelineStats.TotalConns
		}
		calls := map[string]func() error{
			"beat": func() error { _, err := j.Beat(t.Context(), on, "t:beats", 1); return err },
			"look": func() error { _, err := j.Look(t.Context(), on, Known{}); return err },
			"read": func() error { _, err := j.NewReader(0).From(t.Context(), on, Position{}); return err },
		}
		for name, call := range calls {
			on.Listened = ""
			require.NoError(t, call(), name)
			before := connections()
			on.Listened = "t:nobody"
			err := call()
			require.Error(t, err, name)
			assert.True(t, IsElsewhere(err), name)
			assert.Less(t, connections(), before, "%s: the connection that led here is closed", name)
		}
	})
}

func TestParseStatus(t *testing.T) {
	t.Parallel()
	good := strings.Split("1|e|500|2|9-500|2020-01-01T00:00:00Z|run|repl|before|slave|down|node|8|7", "|")
	s, ok := ParseStatus(strings.Join(good, "\n"))
	assert.True(t, ok)
	assert.Equal(t, Status{
		Beat: 1, Epoch: "e", Offset: 500, Length: 2, Last: Envelope{ID: "9-500", Pos: Position{9, 500}, Stamp: "2020-01-01T00:00:00Z"},
		Identity: Identity{Run: "run", Repl: "repl", Before: "before", Role: "slave", LinkDown: true, Node: "node"},
		First:    8, Since: 7,
	}, s)
	for field, bad := range map[int]string{0: "x", 1: "", 2: "-1", 3: "", 4: "x", 12: "x", 13: "x"} {
		fields := append([]string{}, good...)
		fields[field] = bad
		_, ok = ParseStatus(strings.Join(fields, "\n"))
		assert.False(t, ok, "field %d", field)
	}
	fields := append([]string{}, good...)
	fields[4] = ""
	_, ok = ParseStatus(strings.Join(fields, "\n"))
	assert.False(t, ok, "entries, but no last one")
	for _, text := range []string{"", "1", strings.Join(good[:13], "\n"), strings.Join(good, "\n") + "\n"} {
		_, ok = ParseStatus(text)
		assert.False(t, ok, text)
	}
}

// The first entry is read once in ten seconds of the entries' time, whoever asks, as it may be large.
func TestStatusKnowsTheFirstEntry(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, client *redis.Client) {
		t.Helper()
		j, on, _ := setup(client)
		ctx := t.Context()
		add := func(id string) {
			t.Helper()
			require.NoError(t, client.XAdd(ctx, &redis.XAddArgs{Stream: j.keys.Journal, ID: id, Values: []any{"k", "", "v", ""}}).Err())
			require.NoError(t, client.HSet(ctx, j.keys.State, "offset", id[strings.Index(id, "-")+1:]).Err())
		}
		first := func() uint64 {
			t.Helper()
			s, err := j.Beat(ctx, on, "t:beats", 1)
			require.NoError(t, err)
			return s.First
		}
		assert.Zero(t, first())
		add("1000-64")
		assert.EqualValues(t, 1000, first())
		add("2000-128")
		require.NoError(t, client.XTrimMinID(ctx, j.keys.Journal, "2000-0").Err())
		assert.EqualValues(t, 1000, first(), "known for ten seconds")
		add("10999-192")
		assert.EqualValues(t, 1000, first())
		add("11000-256")
		assert.EqualValues(t, 2000, first(), "read again")
		other, _, _ := setup(client)
		s, err := other.Beat(ctx, on, "t:beats", 1)
		require.NoError(t, err)
		assert.EqualValues(t, 2000, s.First)
		require.NoError(t, client.Del(ctx, j.keys.Journal).Err())
		assert.Zero(t, first(), "it expired")
		add("5000-320") // the clock was set back
		assert.EqualValues(t, 5000, first())
		require.NoError(t, client.Del(ctx, j.keys.State).Err())
		assert.EqualValues(t, 5000, first(), "though nothing can be noted before there is an offset")
	})
}

// The commands that the documentation of package client lists do not have PUBSUB among them.
func TestStatusAndReadingWithFewPermissions(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	_, _, w := setup(admin)
	w.append(t, 10)
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">secret", "~t:*", "&t:*",
		"+eval", "+evalsha", "+xlen", "+xrevrange", "+xrange", "+hmget", "+hset", "+pttl", "+pexpire", "+publish", "+multi", "+exec", "+info", "+cluster|myid",
		"+hello", "+ping").Err())
	options := server.Options()
	options.Username, options.Password, options.DisableIdentity = "app", "secret", true
	client := redis.NewClient(options)
	defer client.Close()
	j, on, _ := setup(client)
	on.Listened = "t:beats"
	_, err := j.Beat(t.Context(), on, "t:beats", 1)
	require.NoError(t, err)
	assert.Equal(t, 1, look(t, j, on, Known{}).Length)
	part, err := j.NewReader(0).From(t.Context(), on, Position{})
	require.NoError(t, err)
	assert.Len(t, part.Entries, 1)
}

func TestCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, redistest.WithReplicas(1))
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()})
	defer client.Close()
	j, on, w := setup(client)
	p := w.append(t, 10)
	now := look(t, j, on, Known{Cursor: Envelope{Pos: p}})
	require.NotNil(t, now.AtCursor)
	assert.Len(t, now.Identity.Node, 40)
	s, err := j.Beat(t.Context(), on, "t:beats", 1)
	require.NoError(t, err)
	assert.Equal(t, now.Epoch, s.Epoch)
	part, err := j.NewReader(0).From(t.Context(), on, Position{})
	require.NoError(t, err)
	assert.Len(t, part.Entries, 1)

	// The client may not have heard of what happened yet.
	changed := func(known Known) (now Now) {
		assert.Eventually(t, func() bool {
			client.ReloadState(t.Context())
			var err error
			now, err = j.Look(t.Context(), on, known)
			return err == nil && now.Identity.Run != known.Identity.Run
		}, 20*time.Second, 10*time.Millisecond)
		return now
	}
	known := knownOf(&now.Status)
	for _, node := range cluster.Nodes()[:3] {
		if node != cluster.MasterOf(t, j.keys.Journal) {
			cluster.MoveSlot(t, j.keys.Journal, node, nil)
			break
		}
	}
	moved := changed(known)
	assert.Equal(t, Verdict{From: p}, Compare(known, moved), "to move the slot loses nothing")
	known = knownOf(&moved.Status)
	cluster.Failover(t, j.keys.Journal)
	assert.Equal(t, Verdict{Reason: Failover, From: p, Filter: true}, Compare(known, changed(known)))
}
