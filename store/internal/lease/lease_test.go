package lease_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/lease"
	"github.com/compozy/cache/store/internal/wake"
)

// revoke does what scripts do that write a value without a lease.
func revoke(t *testing.T, c redis.Cmdable, k lease.Keys) {
	t.Helper()
	require.NoError(t, c.Eval(t.Context(), entry.Lua+wake.Lua+"revoke(KEYS[1]) return 1", []string{k.Lease}).Err())
}

func TestHolderLoadsAndOthersGetWhatItStored(t *testing.T) {
	t.Parallel()
	a, b, server := setup(t)
	hears(t, a, b)
	k := keys("k")
	held := grant(t, a, k)
	server.ResetCommands(t)
	waiting := await(t, b, k)
	r := held.Fill(t.Context(), value("hello"))
	require.NoError(t, r.Err)
	require.True(t, r.Stored)
	assert.Equal(t, r.Version, r.Now)
	assert.Equal(t, "hello", payload(t, receive(t, waiting)))
	counts := server.Commands(t)
	assert.EqualValues(t, 2, counts["evalsha"], "the waiter has asked once: %v", counts)

	fresh := claim(t, b, k).Ask(t.Context())
	assert.Equal(t, "hello", payload(t, fresh))
	e, err := entry.Parse(fresh.Raw)
	require.NoError(t, err)
	assert.Equal(t, r.Version, e.Version)
	assert.Equal(t, r.Version+time.Minute.Microseconds(), e.Until)
	assert.True(t, e.FreshAt(fresh.Now))
	ttl := server.Client(t).PTTL(t.Context(), k.Value).Val()
	assert.Greater(t, ttl, time.Minute)
	assert.LessOrEqual(t, ttl, 2*time.Minute)
	assert.Zero(t, server.Client(t).Exists(t.Context(), k.Lease).Val())
}

func TestLargeValueIsReadByThoseWhoWait(t *testing.T) {
	t.Parallel()
	a, b, server := setup(t)
	require.True(t, grant(t, a, keys("other")).Fill(t.Context(), value("so that the server knows the scripts")).Stored)
	held := grant(t, a, keys("k"))
	waiting := await(t, b, keys("k"))
	server.ResetCommands(t)
	large := strings.Repeat("x", 5000)
	require.True(t, held.Fill(t.Context(), value(large)).Stored)
	assert.Equal(t, large, payload(t, receive(t, waiting)))
	counts := server.Commands(t)
	assert.EqualValues(t, 2, counts["evalsha"], "%v", counts)
}

func TestFailureIsSharedAndPauses(t *testing.T) {
	t.Parallel()
	a, b, _ := setup(t)
	k := keys("k")
	held := grant(t, a, k)
	waiting := await(t, b, k)
	failure := lease.Failure{Class: lease.Load, Message: "no such\ntable"}
	require.True(t, held.Fail(t.Context(), failure, time.Second))
	answer := receive(t, waiting)
	assert.Equal(t, lease.Refused, answer.Outcome)
	assert.Equal(t, failure, answer.Failure)

	answer = claim(t, b, k).Ask(t.Context())
	require.Equal(t, lease.Refused, answer.Outcome)
	assert.Equal(t, failure, answer.Failure)
	assert.Positive(t, answer.Left)
	assert.LessOrEqual(t, answer.Left, time.Second)
	require.Eventually(t, func() bool {
		return claim(t, b, k).Ask(t.Context()).Outcome == lease.Granted
	}, patience, tick)
}

func TestFailureWithoutPause(t *testing.T) {
	t.Parallel()
	a, b, _ := setup(t)
	hears(t, a, b)
	held := grant(t, a, keys("k"))
	waiting := await(t, b, keys("k"))
	require.True(t, held.Fail(t.Context(), lease.Failure{Class: lease.Panic}, 0))
	assert.Equal(t, lease.Panic, receive(t, waiting).Failure.Class)
	grant(t, b, keys("k"))
}

func TestKnownAbsenceDeletesWhatWasThere(t *testing.T) {
	t.Parallel()
	a, _, server := setup(t)
	k := keys("k")
	old := value("old")
	old.TTL = time.Millisecond
	require.True(t, grant(t, a, k).Fill(t.Context(), old).Stored)
	require.Eventually(t, func() bool {
		answer := claim(t, a, k).Ask(t.Context())
		if answer.Outcome != lease.Granted {
			return false
		}
		require.True(t, answer.Lease.Fail(t.Context(), lease.Failure{Class: lease.Load}, 0))
		return true
	}, patience, tick)
	assert.EqualValues(t, 1, server.Client(t).Exists(t.Context(), k.Value).Val(), "a failure leaves what is not fresh")
	require.True(t, grant(t, a, k).Fail(t.Context(), lease.Failure{Class: lease.Absent}, 0))
	assert.Zero(t, server.Client(t).Exists(t.Context(), k.Value).Val())
}

func TestRevokedHolderStoresNothing(t *testing.T) {
	t.Parallel()
	a, b, server := setup(t)
	k := keys("k")
	held := grant(t, a, k)
	waiting := await(t, b, k)
	revoke(t, server.Client(t), k)
	next := receive(t, waiting)
	require.Equal(t, lease.Granted, next.Outcome, "the next one loads")

	r := held.Fill(t.Context(), value("old"))
	require.NoError(t, r.Err)
	assert.False(t, r.Stored)
	require.False(t, held.Fail(t.Context(), lease.Failure{Class: lease.Load}, time.Minute))
	require.True(t, next.Lease.Fill(t.Context(), value("new")).Stored)
	assert.Equal(t, "new", payload(t, claim(t, a, k).Ask(t.Context())))
}

func TestFlushedLeaseStoresNothing(t *testing.T) {
	t.Parallel()
	a, _, server := setup(t)
	held := grant(t, a, keys("k"))
	require.NoError(t, server.Client(t).FlushAll(t.Context()).Err())
	r := held.Fill(t.Context(), value("old"))
	require.NoError(t, r.Err)
	assert.False(t, r.Stored)
}

func TestLeaseIsRenewedUntilItsHolderDies(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := newLeases(t, newClient(t, server.Addr()))
	client := newClient(t, server.Addr())
	a := newLeases(t, client)
	k := keys("k")
	held := grant(t, a, k)
	waiting := await(t, b, k)
	select {
	case answer := <-waiting:
		require.Failf(t, "the lease has run out", "%+v", answer)
	case <-time.After(2 * lease.TTL):
	}
	require.NoError(t, client.Close()) // the holder cannot renew any more
	answer := receive(t, waiting)
	require.Equal(t, lease.Granted, answer.Outcome)
	require.Error(t, held.Fill(t.Context(), value("late")).Err)
	require.True(t, answer.Lease.Fill(t.Context(), value("new")).Stored)
}

func TestOwnLeaseAndOwnValueAreRecognised(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	l := newLeases(t, newClient(t, proxy.Addr()))
	require.Equal(t, lease.Granted, claim(t, l, keys("warm")).Ask(t.Context()).Outcome)

	for name, ask := range map[string]func(c *lease.Claim) lease.Answer{
		"alone": func(c *lease.Claim) lease.Answer { return c.Ask(t.Context()) },
		"many": func(c *lease.Claim) lease.Answer {
			proxy.DropReplies(0)
			return l.AskMany(t.Context(), []*lease.Claim{c})[0]
		},
	} {
		c := claim(t, l, keys(name))
		proxy.DropReplies(2)
		a := ask(c)
		require.NoError(t, a.Err, name)
		require.Equal(t, lease.Granted, a.Outcome, name)
		require.Equal(t, lease.Granted, c.Ask(t.Context()).Outcome, name)
		proxy.DropReplies(2)
		r := a.Lease.Fill(t.Context(), value("v"))
		require.NoError(t, r.Err, name)
		require.True(t, r.Stored, name)
		proxy.DropReplies(0)
	}
}

func TestForeignKeysAreLeftAlone(t *testing.T) {
	t.Parallel()
	a, _, server := setup(t)
	client := server.Client(t)
	for name, set := range map[string]func(key string){
		"codec": func(key string) { client.Set(t.Context(), key, "cs1 vx- 1 0 0 ab -\nx", 0) },
		"text":  func(key string) { client.Set(t.Context(), key, "hello", 0) },
		"list":  func(key string) { client.RPush(t.Context(), key, "hello") },
		"state": func(key string) { client.Set(t.Context(), key, "cs1 sj- 1 0 0 ab -\nx", 0) },
	} {
		value1, lease1 := keys(name+"v"), keys(name+"l")
		set(value1.Value)
		set(lease1.Lease)
		assert.Equal(t, lease.Foreign, claim(t, a, value1).Ask(t.Context()).Outcome, name)
		assert.Equal(t, lease.Foreign, claim(t, a, lease1).Ask(t.Context()).Outcome, name)

		late := keys(name)
		held := grant(t, a, late)
		set(late.Value)
		before := client.Dump(t.Context(), late.Value).Val()
		r := held.Fill(t.Context(), value("v"))
		require.NoError(t, r.Err)
		assert.True(t, r.Foreign)
		assert.Equal(t, before, client.Dump(t.Context(), late.Value).Val())
		assert.Zero(t, client.Exists(t.Context(), late.Lease).Val())
	}
}

func TestKnownVersionIsReplacedAlthoughItIsFresh(t *testing.T) {
	t.Parallel()
	a, b, _ := setup(t)
	k := keys("k")
	first := grant(t, a, k).Fill(t.Context(), value("1"))
	early := a.Claim(k, first.Version)
	defer early.Close()
	answer := early.Ask(t.Context())
	require.Equal(t, lease.Granted, answer.Outcome)

	second := b.Claim(k, first.Version)
	defer second.Close()
	busy := second.Ask(t.Context())
	require.Equal(t, lease.Busy, busy.Outcome)
	assert.Equal(t, "1", payload(t, claim(t, b, k).Ask(t.Context())), "it is fresh for all others")
	require.True(t, answer.Lease.Fill(t.Context(), value("2")).Stored)
	assert.Equal(t, "2", payload(t, second.Await(t.Context(), busy, true)))
	again := b.Claim(k, first.Version)
	defer again.Close()
	assert.Equal(t, "2", payload(t, again.Ask(t.Context())), "somebody has replaced it")
}

func TestLostMessageCostsTheRestOfTheLease(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	a := newLeases(t, newClient(t, server.Addr()))
	// The inbox is on the connection that was made first.
	b := newLeases(t, newClient(t, proxy.Addr()))
	held := grant(t, a, keys("k"))
	waiting := await(t, b, keys("k"))
	proxy.SwallowToClient(true)
	require.True(t, held.Fill(t.Context(), value("v")).Stored)
	require.Eventually(t, func() bool { // the message has come, and is gone
		return server.Client(t).Exists(t.Context(), keys("k").Lease).Val() == 0
	}, patience, tick)
	<-time.After(50 * time.Millisecond)
	proxy.SwallowToClient(false)
	assert.Equal(t, "v", payload(t, receive(t, waiting)))
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	a, b, _ := setup(t)
	grant(t, a, keys("k"))
	c := claim(t, b, keys("k"))
	busy := c.Ask(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, c.Await(ctx, busy, false).Err, context.Canceled)
}

func TestMessagesOfEarlierHoldersAreNotBelieved(t *testing.T) {
	t.Parallel()
	a, b, server := setup(t)
	k := keys("k")
	held := grant(t, a, k)
	waiting := await(t, b, k)
	inboxes := server.Client(t).PubSubChannels(t.Context(), "cache:store:inbox:*").Val()
	require.Len(t, inboxes, 2)
	for _, inbox := range inboxes {
		for _, message := range []string{"filled 0123456789abcdef 17 13 " + k.Lease + "cs1 vj- 1 0 0 ab -\nx", "nonsense", "filled"} {
			require.NoError(t, server.Client(t).Publish(t.Context(), inbox, message).Err())
		}
	}
	require.True(t, held.Fill(t.Context(), value("v")).Stored)
	assert.Equal(t, "v", payload(t, receive(t, waiting)))
}

func TestManyLeasesInOneRoundTrip(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	l := newLeases(t, newClient(t, proxy.Addr()))
	exercise := func(prefix string) {
		claims := make([]*lease.Claim, 100)
		for i := range claims {
			claims[i] = claim(t, l, keys(prefix+strings.Repeat("x", i)))
		}
		var held []*lease.Lease
		var values []lease.Value
		for _, a := range l.AskMany(t.Context(), claims) {
			require.NoError(t, a.Err)
			require.Equal(t, lease.Granted, a.Outcome)
			held, values = append(held, a.Lease), append(values, value("v"))
		}
		l.FillMany(t.Context(), held[:50], values[:50], func(_ int, r lease.Result) { assert.True(t, r.Stored) })
		l.FailMany(t.Context(), held[50:], make([]lease.Failure, 50), make([]time.Duration, 50), func(_ int, ended bool, err error) {
			assert.NoError(t, err)
			assert.True(t, ended)
		})
	}
	exercise("a")
	before := proxy.Requests()
	exercise("b")
	assert.LessOrEqual(t, proxy.Requests()-before, 3+1, "the fourth may be a renewal")
	assert.EqualValues(t, 100, server.Client(t).DBSize(t.Context()).Val(), "values, and no lease")
}

func TestLeasesInACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()})
	t.Cleanup(func() { _ = client.Close() })
	a, b := newLeases(t, client), newLeases(t, client)
	var claims []*lease.Claim
	var waiting []<-chan lease.Answer
	names := []string{"a", "b", "c", "d", "{x}", "e", "f"}
	for _, name := range names {
		claims = append(claims, claim(t, a, keys(name)))
	}
	answers := a.AskMany(t.Context(), claims)
	var held []*lease.Lease
	var values []lease.Value
	for i, answer := range answers {
		require.NoError(t, answer.Err, names[i])
		require.Equal(t, lease.Granted, answer.Outcome)
		held, values = append(held, answer.Lease), append(values, value(names[i]))
		waiting = append(waiting, await(t, b, keys(names[i])))
	}
	a.FillMany(t.Context(), held, values, func(_ int, r lease.Result) {
		assert.NoError(t, r.Err)
		assert.True(t, r.Stored)
	})
	for i, answers := range waiting {
		assert.Equal(t, string(values[i].Payload), payload(t, receive(t, answers)))
	}
}

func TestLeasesOnMiniredis(t *testing.T) {
	t.Parallel()
	mini := miniredis.RunT(t)
	a, b := newLeases(t, newClient(t, mini.Addr())), newLeases(t, newClient(t, mini.Addr()))
	held := grant(t, a, keys("k"))
	waiting := await(t, b, keys("k"))
	require.True(t, held.Fill(t.Context(), value("v")).Stored)
	assert.Equal(t, "v", payload(t, receive(t, waiting)))
	require.True(t, grant(t, a, keys("f")).Fail(t.Context(), lease.Failure{Class: lease.Load, Message: "m"}, time.Second))
	assert.Equal(t, lease.Refused, claim(t, b, keys("f")).Ask(t.Context()).Outcome)
}
