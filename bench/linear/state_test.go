package linear

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

const (
	// epoch is for how long the same keys are used: an uncertain write makes all that follows on its key hard to check.
	epoch = 150 * time.Millisecond
	// writers is how many callers each of the Stores has.
	writers = 3
	// patient is how long a State waits for Redis, which is sometimes frozen for longer.
	patient = 200 * time.Millisecond
)

// workOnState makes random calls until the time is over, and records them. Values that it has seen are what it expects.
func workOnState(j *journal, client int, st *store.State[string], over <-chan struct{}) {
	seen := make(map[string]store.Item[string])
	for number := 0; ; number++ {
		select {
		case <-over:
			return
		default:
		}
		key := fmt.Sprintf("%d %d", time.Since(j.begin)/epoch, rand.N(2))
		q := request{key: key, text: fmt.Sprintf("%d-%d", client, number)}
		if rand.N(2) == 0 { // a token from a lock that goes from hand to hand
			q.fence = int64(time.Since(j.begin)/(5*time.Millisecond)) + rand.Int64N(3) + 1
		}
		from := time.Now()
		item, a := ask(st, &q, seen[key])
		if a.outcome != "failed" {
			j.add(client, q, a, from)
		}
		if item.Version != 0 {
			seen[key] = item
		}
		<-time.After(rand.N(2 * time.Millisecond))
	}
}

// ask makes a random call. last is what the caller has seen last.
func ask(st *store.State[string], q *request, last store.Item[string]) (store.Item[string], answer) {
	ctx := context.Background()
	var item store.Item[string]
	var err error
	var opts []store.Option
	if q.fence > 0 {
		opts = append(opts, store.WithFence(q.fence))
	}
	switch rand.N(8) {
	case 0:
		q.op = "create"
		item.Version, err = st.Create(ctx, q.key, q.text, opts...)
	case 1:
		q.op = "put"
		item.Version, err = st.Put(ctx, q.key, q.text, opts...)
	case 2, 3:
		q.op, q.expected = "put if", int64(last.Version)
		if last.Version == 0 {
			q.op = "create" // that is what it means
		}
		item.Version, err = st.Put(ctx, q.key, q.text, append(opts, store.IfVersion(last.Version))...)
	case 4:
		q.op = "update"
		item, err = st.Update(ctx, q.key, func(v *string) error {
			q.base = *v
			*v = q.text
			return nil
		}, opts...)
	case 5:
		q.op, q.text = "delete", ""
		if last.Version != 0 {
			q.op, q.expected = "delete if", int64(last.Version)
			opts = append(opts, store.IfVersion(last.Version))
		}
		err = st.Delete(ctx, q.key, opts...)
	default:
		q.op, q.text, q.fence = "get", "", 0
		item, err = st.Get(ctx, q.key)
	}
	if item.Value == "" {
		item.Value = q.text
	}
	return item, answerOf(item, err)
}

// answerOf translates what a call has returned.
func answerOf(item store.Item[string], err error) answer {
	var conflict *store.ConflictError[string]
	switch {
	case err == nil:
		return answer{"ok", int64(item.Version), item.Value}
	case errors.As(err, &conflict):
		return answer{"conflict", int64(conflict.Current.Version), conflict.Current.Value}
	case errors.Is(err, store.ErrUncertain):
		return answer{outcome: "uncertain"}
	case errors.Is(err, store.ErrFenced):
		return answer{outcome: "fenced"}
	case errors.Is(err, store.ErrNotFound):
		return answer{outcome: "missing"}
	default:
		return answer{outcome: "failed"} // certainly not done
	}
}

// states returns States of one name on a server, each on a Store of its own behind a proxy of its own.
func states(t *testing.T, s *redistest.Server, count int) ([]*faultproxy.Proxy, []*store.State[string]) {
	t.Helper()
	var proxies []*faultproxy.Proxy
	var all []*store.State[string]
	for range count {
		proxy := faultproxy.New(t, s.Addr())
		c := redis.NewClient(&redis.Options{
			Addr: proxy.Addr(), ContextTimeoutEnabled: true, ReadTimeout: patient / 3,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		t.Cleanup(func() { _ = c.Close() })
		st, err := store.New(c, store.WithStateTimeout(patient))
		require.NoError(t, err)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			assert.NoError(t, st.Close(ctx))
		})
		state, err := store.NewState[string](st, "things")
		require.NoError(t, err)
		proxies, all = append(proxies, proxy), append(all, state)
	}
	return proxies, all
}

// runOnStates lets callers work for some time while faults happen.
func runOnStates(all []*store.State[string], length time.Duration, faults func()) *journal {
	j := newJournal()
	over := make(chan struct{})
	var working sync.WaitGroup
	for i := range writers * len(all) {
		working.Go(func() { workOnState(j, i, all[i%len(all)], over) })
	}
	for begin := time.Now(); time.Since(begin) < length; {
		faults()
	}
	close(over)
	working.Wait()
	return j
}

// TestHistoriesOfState: replies are lost, connections cut, requests held back and overtaken, the server frozen and
// restarted.
func TestHistoriesOfState(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithPersistence())
	proxies, all := states(t, server, 3)
	j := runOnStates(all, chaos, func() {
		pause(rand.N(60 * time.Millisecond))
		proxy := proxies[rand.N(len(proxies))]
		switch rand.N(8) {
		case 0:
			server.Stop()
			pause(rand.N(2 * patient)) // what its clients have given up is executed afterwards
			server.Continue()
		case 1:
			server.Restart()
		case 2:
			let := proxy.HoldToServer()
			pause(rand.N(patient)) // what overtakes it comes over other connections
			let()
		case 3:
			proxy.Cut()
		default:
			proxy.DropReplies(1 + rand.N(2))
		}
	})
	t.Log(j.counts)
	for _, outcome := range []string{"ok", "missing", "conflict", "fenced", "uncertain"} {
		assert.Positive(t, j.counts[outcome], outcome)
	}
	assert.Less(t, j.counts["uncertain"], len(j.history)/5, "what is uncertain proves nothing")
	assert.Equal(t, porcupine.Ok, j.check())
}

// TestHistoryOfValuesThatComeBack: somebody restores what was there before, as a replica that was behind does. The
// recorded history must tell.
func TestHistoryOfValuesThatComeBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	_, all := states(t, server, 2)
	c := server.Client(t)
	j := runOnStates(all, brief, func() {
		kept := make(map[string]string)
		for _, key := range c.Keys(t.Context(), "*").Val() {
			kept[key] = c.Get(t.Context(), key).Val()
		}
		pause(10 * time.Millisecond)
		for key, value := range kept {
			assert.NoError(t, c.Set(t.Context(), key, value, 0).Err())
		}
	})
	assert.Equal(t, porcupine.Illegal, j.check())
}
