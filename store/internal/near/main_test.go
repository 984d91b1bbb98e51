package near_test

import (
	"context"
	"math"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store/internal/near"
)

func TestMain(m *testing.M) { redistest.VerifyTestMain(m) }

const (
	// patience is how long a test waits for what should take milliseconds, on a busy machine.
	patience = 30 * time.Second
	// tick is how often it looks.
	tick = 2 * time.Millisecond

	prefix = "cache:v:users:"
	depend = "cache:t:users:"
	// staleness is for tests in which nothing goes wrong, on a busy machine.
	staleness = 5 * time.Second
	// forever is for values that stay fresh until they change.
	forever time.Duration = math.MaxInt64
)

// bundle is what a test needs beside the cache.
type bundle struct {
	t       *testing.T
	cache   *near.Cache
	tracker *near.Tracker
	client  redis.UniversalClient // of the application
}

// start returns a cache whose keys are tracked. adjust may change its settings.
func start(t *testing.T, client redis.UniversalClient, adjust func(*near.CacheSettings)) *bundle {
	t.Helper()
	tracker, err := near.New(near.Settings{
		Client: client, Channel: near.Channel("cache:"), Logger: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)),
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, tracker.Close(ctx))
	})
	set := near.CacheSettings{Prefix: prefix, Depends: []string{depend}, MaxStaleness: staleness}
	if adjust != nil {
		adjust(&set)
	}
	c, err := tracker.NewCache(set)
	require.NoError(t, err)
	tracker.Start()
	return &bundle{t, c, tracker, client}
}

// up waits until values may be put and served.
func (b *bundle) up() {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		s := b.tracker.Status()
		return s.Up && s.Age >= 0
	}, patience, tick)
}

// fetch reads from Redis, and puts what it finds. What is absent is the empty string.
func (b *bundle) fetch(ctx context.Context, key string) error {
	mark := b.cache.Begin(key)
	value, err := b.client.Get(ctx, key).Result()
	if err == redis.Nil { //nolint:errorlint // go-redis returns it as it is
		err = nil
	}
	if err == nil {
		b.cache.Put(mark, key, value, len(value), forever)
	}
	return err
}

// fill makes the next reads of the keys hits.
func (b *bundle) fill(keys ...string) {
	b.t.Helper()
	for _, key := range keys {
		require.Eventually(b.t, func() bool {
			if _, hit := b.cache.Get(key); hit {
				return true
			}
			if err := b.fetch(b.t.Context(), key); err != nil {
				b.lookAround()
			}
			return false
		}, patience, tick, key)
	}
}

// lookAround makes the application's client ask who the masters are, if it is one for a cluster: a dead one never says that
// it is none any more.
func (b *bundle) lookAround() {
	if c, ok := b.client.(*redis.ClusterClient); ok {
		c.ReloadState(b.t.Context())
	}
}

// gone waits until a key is not served any more.
func (b *bundle) gone(why string, keys ...string) {
	b.t.Helper()
	for _, key := range keys {
		require.Eventually(b.t, func() bool {
			_, hit := b.cache.Get(key)
			return !hit
		}, patience, tick, why+": "+key)
	}
}

func key(i int) string { return prefix + "{" + strconv.Itoa(i) + "}" }

// newClient returns a client as package client configures it.
func newClient(t testing.TB, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// through returns a client that reaches the server by a proxy.
func through(t *testing.T, server *redistest.Server) (*redis.Client, *faultproxy.Proxy) {
	t.Helper()
	proxy := faultproxy.New(t, server.Addr())
	return newClient(t, proxy.Addr()), proxy
}

// paths returns a client for reads and writes, wrapped in one whose Unwrap leads through a proxy: the tracker's connections
// break, the application's do not.
func paths(t *testing.T, server *redistest.Server) (client redis.UniversalClient, proxy *faultproxy.Proxy) {
	t.Helper()
	tracked, proxy := through(t, server)
	return split{newClient(t, server.Addr()), tracked}, proxy
}

type split struct {
	redis.UniversalClient

	tracked *redis.Client
}

func (s split) Unwrap() redis.UniversalClient { return s.tracked }

// lines returns the fields of each line of CLIENT LIST.
func lines(list string) (all []map[string]string) {
	for line := range strings.Lines(list) {
		fields := make(map[string]string)
		for field := range strings.FieldsSeq(line) {
			name, value, _ := strings.Cut(field, "=")
			fields[name] = value
		}
		all = append(all, fields)
	}
	return all
}

func contains(flags string, flag rune) bool { return strings.ContainsRune(flags, flag) }

// dialNothing is a dialer that fails and counts.
func dialNothing(dials *atomic.Int64) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		return nil, net.ErrClosed
	}
}
