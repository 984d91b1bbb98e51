package near_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store/internal/near"
)

// model knows what the values of some keys were when. Each is a number that its one writer makes larger.
type model struct {
	began time.Time
	keys  []string
	mu    sync.Mutex
	// done says per key when its n-th value was certainly in Redis, in order.
	done [][]time.Duration
}

const modelKeys = 10

func newModel() *model {
	m := &model{began: time.Now(), done: make([][]time.Duration, modelKeys)}
	for i := range modelKeys {
		m.keys = append(m.keys, key(i))
	}
	return m
}

// write writes the next value of a key. Only one goroutine may do that.
func (m *model) write(ctx context.Context, c redis.Cmdable, i int) error {
	m.mu.Lock()
	n := len(m.done[i]) + 1
	m.mu.Unlock()
	if err := c.Set(ctx, m.keys[i], n, 0).Err(); err != nil {
		return err // may have been done: the next write has the same number, and is done for certain
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done[i] = append(m.done[i], time.Since(m.began))
	return nil
}

// age returns how long before an instant a value had certainly been replaced by a later one; 0 if it had not.
func (m *model) age(i int, value string, at time.Duration) time.Duration {
	n, _ := strconv.Atoi(value)
	m.mu.Lock()
	defer m.mu.Unlock()
	if n >= len(m.done[i]) { // done[n] is when the value n+1 was written
		return 0
	}
	return max(0, at-m.done[i][n])
}

// run writes and reads while f does its worst, and returns the oldest hit, and how many there were.
func (m *model) run(b *bundle, writer redis.Cmdable, f func()) (oldest time.Duration, hits int64) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	var work sync.WaitGroup
	var count atomic.Int64
	var worst atomic.Int64
	work.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_ = m.write(ctx, writer, i%len(m.keys))
			pause(ctx, 200*time.Microsecond)
		}
	})
	for range 2 {
		work.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				k := i % len(m.keys)
				at := time.Since(m.began)
				hit, ok := b.cache.Get(m.keys[k])
				if !ok {
					within, done := context.WithTimeout(ctx, 500*time.Millisecond)
					_ = b.fetch(within, m.keys[k])
					done()
					continue
				}
				count.Add(1)
				if age := int64(m.age(k, hit.Value.(string), at)); age > worst.Load() {
					worst.Store(age)
				}
				if i%8 == 0 {
					pause(ctx, 100*time.Microsecond)
				}
			}
		})
	}
	f()
	cancel()
	work.Wait()
	return time.Duration(worst.Load()), count.Load()
}

// pause waits for a time that costs nothing but patience.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// flowing waits until values are served for a while.
func (b *bundle) flowing() {
	b.t.Helper()
	b.up()
	pause(b.t.Context(), 20*time.Millisecond)
}

const bound = 300 * time.Millisecond

func bounded(s *near.CacheSettings) { s.MaxStaleness = bound }

// The tracker's connections swallow everything for a while, in either direction, break, or are slow. No value is older than
// the bound.
func TestBoundUnderFaults(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := paths(t, server)
	b := start(t, client, bounded)
	b.up()
	m := newModel()
	var after int64
	oldest, hits := m.run(b, server.Client(t), func() {
		for range 3 {
			for name, fault := range map[string]func(on bool){
				"half-open": proxy.SwallowToClient,
				"deaf":      proxy.SwallowToServer,
				"cut":       func(bool) { proxy.Cut() },
				"refused":   func(on bool) { proxy.Refuse(on); proxy.Cut() },
			} {
				b.flowing()
				fault(true)
				pause(t.Context(), 2*bound)
				if name != "cut" {
					_, ok := b.cache.Get(m.keys[0])
					assert.False(t, ok, name)
				}
				fault(false)
			}
		}
		b.flowing()
		after = 1
	})
	assert.Equal(t, int64(1), after)
	t.Logf("oldest %v of %d hits", oldest, hits)
	assert.LessOrEqual(t, oldest, bound)
	assert.Greater(t, hits, int64(1000))
}

// Only the subscribed connection is half-open. That ends the session, and the next one is as good as the first.
func TestHalfOpenSubscription(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxies := [...]*faultproxy.Proxy{faultproxy.New(t, server.Addr()), faultproxy.New(t, server.Addr())}
	var dials atomic.Int64
	client := redis.NewClient(&redis.Options{
		Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, proxies[(dials.Add(1)-1)%2].Addr())
		},
	})
	t.Cleanup(func() { _ = client.Close() })
	b := start(t, split{newClient(t, server.Addr()), client}, bounded)
	b.up()
	b.fill(key(1))
	proxies[0].SwallowToClient(true)
	b.gone("nothing is heard", key(1))
	require.Eventually(t, func() bool { return b.tracker.Status().Cause != nil }, patience, tick)
	require.ErrorContains(t, b.tracker.Status().Cause, "did not answer in time")
	proxies[0].SwallowToClient(false)
	b.fill(key(1))
}

// A server that stands still for a while, and with it the application's reads and writes.
func TestBoundWhileServerFreezes(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := start(t, newClient(t, server.Addr()), bounded)
	b.up()
	m := newModel()
	oldest, hits := m.run(b, server.Client(t), func() {
		for i := range 6 {
			b.flowing()
			server.Stop()
			pause(t.Context(), bound/3+time.Duration(i)*bound/3)
			server.Continue()
		}
		b.flowing()
	})
	t.Logf("oldest %v of %d hits", oldest, hits)
	assert.LessOrEqual(t, oldest, bound)
	assert.Greater(t, hits, int64(1000))
}

// Somebody kills the tracker's connections again and again.
func TestBoundUnderKills(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, proxy := paths(t, server)
	b := start(t, client, bounded)
	b.up()
	m := newModel()
	admin := server.Client(t)
	oldest, hits := m.run(b, server.Client(t), func() {
		for range 50 {
			b.up()
			pause(t.Context(), 5*time.Millisecond)
			before := b.tracker.Status().Flushes
			kill(t, admin)
			require.Eventually(t, func() bool { return b.tracker.Status().Flushes > before }, patience, tick)
		}
	})
	t.Logf("oldest %v of %d hits", oldest, hits)
	assert.LessOrEqual(t, oldest, bound)
	assert.GreaterOrEqual(t, proxy.Accepted(), 100, "each session has two connections")
}

// kill kills the connections that track keys, and returns how many there were.
func kill(t *testing.T, admin *redis.Client) (killed int) {
	t.Helper()
	for _, id := range tracking(t, admin) {
		if admin.ClientKillByFilter(t.Context(), "id", id).Err() == nil {
			killed++
		}
	}
	return killed
}

// tracking returns the IDs of connections that track keys.
func tracking(t *testing.T, admin *redis.Client) (ids []string) {
	t.Helper()
	list, err := admin.ClientList(t.Context()).Result()
	require.NoError(t, err)
	for _, fields := range lines(list) {
		if contains(fields["flags"], 't') {
			ids = append(ids, fields["id"])
		}
	}
	return ids
}

// A value that was read before it changed is never put after the change was heard, however late the read returns.
func TestDelayedPuts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := start(t, newClient(t, server.Addr()), nil)
	b.up()
	writer := server.Client(t)
	stale, put := 0, 0
	for round := range 600 {
		k := key(round % 7)
		require.NoError(t, writer.Set(t.Context(), k, fmt.Sprint("old", round), 0).Err())
		mark := b.cache.Begin(k)
		value, err := b.client.Get(t.Context(), k).Result()
		require.NoError(t, err)
		want := value
		if round%3 > 0 {
			want = fmt.Sprint("new", round)
			require.NoError(t, writer.Set(t.Context(), k, want, 0).Err())
		}
		if round%3 == 2 {
			heard := b.cache.Stats().Invalidated
			require.NoError(t, writer.Set(t.Context(), k, want, 0).Err())
			require.Eventually(t, func() bool { return b.cache.Stats().Invalidated > heard }, patience, tick/10)
		}
		if b.cache.Put(mark, k, value, len(value), forever) {
			put++
		}
		require.Eventually(t, func() bool {
			hit, ok := b.cache.Get(k)
			return !ok || hit.Value == want
		}, patience, tick/10, "an invalidation that comes later removes it")
		if hit, ok := b.cache.Get(k); ok && hit.Value != want {
			stale++
		}
	}
	assert.Zero(t, stale)
	assert.Positive(t, put)
	assert.GreaterOrEqual(t, b.cache.Stats().Dropped, int64(150))
}

// published is a writer that publishes what it writes.
type published struct{ redis.Cmdable }

func (p published) Set(ctx context.Context, key string, value any, _ time.Duration) *redis.StatusCmd {
	cmd := redis.NewStatusCmd(ctx)
	script := "redis.call('SET', KEYS[1], ARGV[2]) redis.call('PUBLISH', ARGV[1], KEYS[1]) return 1"
	cmd.SetErr(p.Eval(ctx, script, []string{key}, near.Channel("cache:"), value).Err())
	return cmd
}
