package feed_test

import (
	"fmt"
	"runtime"
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

// The answers to a hundred thousand names are more than Redis keeps for a connection that does not read them.
func TestManyLongNames(t *testing.T) {
	t.Parallel()
	const count = 100_000
	server := redistest.Start(t)
	client := server.Client(t)
	long := make([]feed.Name, count)
	for i := range long {
		long[i] = feed.Name{Text: fmt.Sprintf("%06d%s", i, strings.Repeat("n", 394)), Glob: i%100 == 0}
	}
	f, sink := start(t, client, func(s *feed.Settings) { s.Heartbeat = 3 * time.Second })
	sink.wait(t, 1, "up 1")
	began := time.Now()
	f.Add(long...)
	sink.wait(t, count, "confirmed 1")
	t.Logf("asked for after %v", time.Since(began).Round(time.Millisecond))
	for number := 2; number < 4; number++ {
		began = time.Now()
		cpu := server.CPU(t)
		require.NoError(t, client.ClientKillByFilter(t.Context(), "type", "pubsub").Err())
		sink.wait(t, 1, fmt.Sprintf("up %d", number))
		t.Logf("up again after %v, %v of server", time.Since(began).Round(time.Millisecond), server.CPU(t)-cpu)
		assert.Equal(t, count, sink.count(fmt.Sprintf("confirmed %d", number)))
	}
	require.NoError(t, client.Publish(t.Context(), long[count-1].Text, "x").Err())
	assert.Contains(t, sink.wait(t, 1, "message"), "n x")
	assert.EqualValues(t, count/100, client.PubSubNumPat(t.Context()).Val())
}

// limited returns a client of a user who may do everything but for the rules given.
func limited(t *testing.T, server *redistest.Server, rules ...any) *redis.Client {
	t.Helper()
	user := append([]any{"acl", "setuser", "limited", "on", ">secret", "~*", "&*", "+@all"}, rules...)
	require.NoError(t, server.Client(t).Do(t.Context(), user...).Err())
	options := server.Options()
	options.Username, options.Password = "limited", "secret"
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// One command asks for many names. One of them that is refused takes no others with it, and the session goes on.
func TestRefusedNames(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	// To a glob the permission has to be given as it is.
	client := limited(t, server, "resetchannels", "&"+channel+"*", "&good:*")
	all := []feed.Name{glob("good:*"), glob("bad:*")}
	for i := range 1000 {
		all = append(all, feed.Name{Text: fmt.Sprintf("good:%d", i)})
		if i%300 == 7 {
			all = append(all, feed.Name{Text: fmt.Sprintf("bad:%d", i)})
		}
	}
	f, sink := start(t, client, nil, all...)
	sink.wait(t, 1, "up 1")
	assert.Equal(t, 1001, sink.count("confirmed 1"))
	assert.Equal(t, 5, sink.count("refused 1"))
	assert.Contains(t, sink.wait(t, 1, "refused 1 bad:7 "), `notification: subscription to "bad:7" refused: NOPERM `)
	assert.Equal(t, 1001, f.Names(), "what was refused is forgotten")
	visible := sink.logs.FilterMessage("notification: subscription refused").FilterLevelExact(zap.ErrorLevel)
	assert.Equal(t, 1, visible.Len(), "however many there are")

	f.Remove(names("bad:7")...) // what a sink may do
	f.Add(names("bad:7", "good:x")...)
	sink.wait(t, 2, "refused 1 bad:7 ")
	sink.wait(t, 1, "confirmed 1 good:x")
	require.NoError(t, server.Client(t).Do(t.Context(), "acl", "setuser", "limited", "&bad:*").Err())
	f.Add(names("bad:7")...)
	sink.wait(t, 1, "confirmed 1 bad:7")
	assert.Empty(t, sink.all("down"))
}

// A name that is wanted again in time stays as it is in Redis, and is confirmed all the same.
func TestNamesLinger(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f, sink := start(t, server.Client(t), func(s *feed.Settings) { s.Linger = time.Hour }, names("a", "b")...)
	sink.wait(t, 1, "up 1")
	server.ResetCommands(t)
	for i := range 10 {
		f.Remove(names("a")...)
		f.Add(names("a")...)
		f.BeatSoon()
		sink.wait(t, i+2, "confirmed 1 a")
	}
	f.Remove(names("a", "never")...)
	f.Add(names("c")...)
	sink.wait(t, 1, "confirmed 1 c")
	assert.Equal(t, 3, f.Names())
	commands := server.Commands(t)
	assert.EqualValues(t, 1, commands["subscribe"])
	assert.Zero(t, commands["unsubscribe"])
}

// Names that come and go cost nothing that stays, here or in Redis, connected or not.
func TestNamesAreForgotten(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := through(t, server)
	admin := server.Client(t)
	f, sink := start(t, client, nil, names("a")...)
	sink.wait(t, 1, "up 1")
	come := func(of string) []feed.Name {
		var all []feed.Name
		for i := range 5000 {
			all = append(all, feed.Name{Text: fmt.Sprintf("%s:%d", of, i), Glob: i%2 == 0})
		}
		f.Add(all...)
		return all
	}
	left := func() bool {
		channels, err := admin.PubSubChannels(t.Context(), "*").Result()
		require.NoError(t, err)
		return len(channels) == 2 && admin.PubSubNumPat(t.Context()).Val() == 0
	}
	f.Remove(come("connected")...)
	require.Eventually(t, func() bool { return f.Names() == 1 }, patience, time.Millisecond)
	require.Eventually(t, left, patience, time.Millisecond)

	proxy.Refuse(true)
	proxy.Cut()
	sink.wait(t, 1, "down 1")
	gone := come("outage")
	come("kept")
	f.Remove(gone...)
	require.Eventually(t, func() bool { return f.Names() == 5001 }, patience, time.Millisecond, "while there is no connection")
	proxy.Refuse(false)
	up := sink.wait(t, 2, "up")
	number := strings.TrimPrefix(up, "up ")
	assert.Equal(t, 5001, sink.count("confirmed "+number))
	assert.Empty(t, sink.all("confirmed "+number+" outage"))
	f.Remove(come("kept")...)
	require.Eventually(t, left, patience, time.Millisecond)
}

// A user may lack the permission to unsubscribe.
func TestUnsubscribeRefused(t *testing.T) {
	t.Parallel()
	client := limited(t, redistest.Start(t), "-unsubscribe", "-punsubscribe")
	f, sink := start(t, client, nil)
	sink.wait(t, 1, "up 1")
	for i := range 10 {
		all := []feed.Name{{Text: fmt.Sprintf("a:%d", i)}, glob(fmt.Sprintf("b:%d", i))}
		f.Add(all...)
		sink.wait(t, 2*i+2, "confirmed")
		f.Remove(all...)
	}
	require.Eventually(t, func() bool { return f.Names() == 0 }, patience, time.Millisecond)
	stays := sink.logs.FilterMessageSnippet("stays subscribed")
	require.Eventually(t, func() bool {
		stays = sink.logs.FilterMessageSnippet("stays subscribed")
		return stays.Len() > 3
	}, patience, time.Millisecond)
	assert.Equal(t, 1, stays.FilterLevelExact(zap.WarnLevel).Len())
	assert.Empty(t, sink.all("down"))
	assert.Empty(t, sink.all("refused"))
}

// Ten thousand names cost one connection, and no goroutine more than one name does.
func TestGoroutinesAreConstant(t *testing.T) { //nolint:paralleltest // it counts all goroutines
	server := redistest.Start(t)
	f, sink := start(t, server.Client(t), nil, names("one")...)
	sink.wait(t, 1, "up 1")
	for i := range 10_000 {
		f.Add(feed.Name{Text: fmt.Sprintf("name:%d", i)})
	}
	sink.wait(t, 10_001, "confirmed 1")
	stacks := make([]byte, 8<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	ours := 0
	for goroutine := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(goroutine, "internal/feed.(*Feed)") {
			ours++
		}
	}
	assert.Equal(t, 3, ours)
	assert.Equal(t, 1, listeners(t, server))
	assert.Equal(t, 10_001, f.Names())
}
