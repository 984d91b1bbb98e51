package client

import (
	"context"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
)

// lines is a Dialer whose connections can be cut, and which addresses can be taken from.
type lines struct {
	refused []string

	mu    sync.Mutex
	conns map[string][]net.Conn
	gone  map[string]bool
}

func newLines() *lines {
	return &lines{conns: make(map[string][]net.Conn), gone: make(map[string]bool)}
}

func (l *lines) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if slices.Contains(l.refused, addr) {
		return nil, syscall.ECONNREFUSED
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone[addr] {
		l.mu.Unlock()
		<-ctx.Done() // nothing comes back from there
		l.mu.Lock()
		return nil, ctx.Err()
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		l.conns[addr] = append(l.conns[addr], conn)
	}
	return conn, err
}

// take lets dials to addr wait for an answer in vain.
func (l *lines) take(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone[addr] = true
}

// cut ends the connections to addr.
func (l *lines) cut(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns[addr] {
		_ = conn.Close()
	}
}

// TestMasterThatCannotBeReached: what sentinels name may be an address that only they reach, from which nothing comes back.
func TestMasterThatCannotBeReached(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinel(t)
	for name, limit := range map[string]time.Duration{"a check ends first": time.Minute, "a dial ends first": 600 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			network := newLines()
			network.take(set.Master().Addr())
			r := open(t, &config.Config{
				MasterName: set.MasterName(), Addrs: set.Addrs(), Dialer: network.dial, DialTimeout: limit, PingTimeout: time.Second,
			})
			for _, err := range []error{r.HealthCheck(t.Context()), r.WaitReady(within(t, refusal))} {
				require.ErrorIs(t, err, ErrUnreachable)
				require.ErrorContains(t, err, "no connection to the master at "+set.Master().Addr()+", which the sentinels name")
			}
		})
	}
}

// The sentinel that was asked before hangs, and every connection to the master is lost: new ones
// are found by another sentinel, however long a reply may take.
func TestSelectedSentinelHangs(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinel(t)
	for name, cfg := range map[string]config.Config{
		"defaults":                {},
		"longer for replies":      {DialTimeout: 2 * time.Second, ReadTimeout: time.Minute},
		"no limit for replies":    {ReadTimeout: -1},
		"hardly time for a reply": {DialTimeout: 900 * time.Millisecond, ReadTimeout: 200 * time.Millisecond},
	} {
		for _, how := range []string{"hangs", "is gone"} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				cfg, lines := cfg, newLines()
				cfg.MasterName, cfg.MaxRetries, cfg.MinIdleConns, cfg.Dialer = set.MasterName(), -1, 1, lines.dial
				lines.refused = set.Addrs() // which the sentinels tell: all go through a proxy
				proxies := make(map[string]*faultproxy.Proxy)
				for _, addr := range set.Addrs() {
					p := faultproxy.New(t, addr)
					proxies[p.Addr()], cfg.Addrs = p, append(cfg.Addrs, p.Addr())
				}
				r := ready(t, &cfg)
				eventually(t, func() bool { return r.PoolStats().IdleConns > 0 }, "idle connections")
				var selected []string
				eventually(t, func() bool {
					selected = slices.DeleteFunc(slices.Collect(maps.Keys(proxies)), func(a string) bool { return proxies[a].Connections() == 0 })
					return len(selected) == 1
				}, "one sentinel is asked")
				proxies[selected[0]].SwallowToServer(true)
				if how == "is gone" {
					lines.take(selected[0])
				}
				lines.cut(set.Master().Addr())
				eventually(t, func() bool { return r.Set(within(t, patience), "k", "v", 0).Err() == nil }, "a new connection")
				works(t, r)
			})
		}
	}
}

// A sentinel that hangs delays a start by no more than its limit, and one that fails names it.
func TestSentinelHangsAtStart(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinel(t)
	hung := listen(t, nil)
	cfg := config.Config{
		MasterName: set.MasterName(), Addrs: append(set.Addrs(), hung.address()),
		DialTimeout: 1500 * time.Millisecond, ReadTimeout: time.Hour, PoolTimeout: time.Hour,
	}
	works(t, ready(t, &cfg))

	limit := open(t, &cfg).main.endpoint.answerTime()
	var err error
	eventually(t, func() bool { // on a busy machine it may not have been asked in that time
		err = open(t, &cfg).WaitReady(within(t, limit/2))
		return err != nil && strings.Contains(err.Error(), "no answer from sentinel ")
	}, "an error that names it")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, hung.address())

	cfg.Addrs = []string{hung.address()}
	err = open(t, &cfg).WaitReady(within(t, 2*limit))
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorContains(t, err, "sentinel "+hung.address()+" gives no answer in 500ms")
}

// The limit is for sentinels: the master, also by way of a copy of the options, may take longer.
func TestMasterMayTakeLonger(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinel(t)
	r := ready(t, &config.Config{MasterName: set.MasterName(), Addrs: set.Addrs(), DialTimeout: 600 * time.Millisecond, MaxRetries: -1})
	require.Less(t, r.main.endpoint.answerTime(), time.Second)
	options := *r.UniversalClient.(*redis.Client).Options()
	same := redis.NewClient(&options)
	defer func() { require.NoError(t, same.Close()) }()
	for _, c := range []redis.UniversalClient{r, same} {
		require.ErrorIs(t, c.BLPop(t.Context(), time.Second, "none").Err(), redis.Nil)
	}
}
