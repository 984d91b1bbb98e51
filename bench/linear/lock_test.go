package linear

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

const (
	ttl      = 300 * time.Millisecond
	patience = 20 * time.Second
	// chaos is for how long faults happen, brief for how long where locks are broken all the time. A history needs enough
	// tenures to say something.
	chaos  = 8 * time.Second
	brief  = time.Second
	enough = 30
)

// acquirer takes a lock in one of the ways that there are.
type acquirer func(ctx context.Context, resource string) (lock.FencedLock, error)

// work takes and gives back locks until the time is over, and records it. Now and then it keeps one until it has expired.
func work(r *recorder, client int, acquire acquirer, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		default:
		}
		resource := [...]string{"a", "b"}[rand.N(2)]
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		from := time.Now()
		l, err := acquire(ctx, resource)
		to := time.Now()
		cancel()
		if err != nil {
			<-time.After(rand.N(5 * time.Millisecond)) // somebody else is there, or the fault of the moment
			continue
		}
		r.acquired(client, resource, l.Token(), from, to)
		keep := rand.N(10 * time.Millisecond)
		if rand.N(8) == 0 {
			keep = 3 * ttl
		}
		timer := time.NewTimer(keep)
		select {
		case <-timer.C:
		case <-l.Lost():
		}
		timer.Stop()
		// A holder may not rely on the lock after Until, and finds that out from the clock.
		from = time.Now()
		if !l.IsHeld() {
			r.lost()
			if until := l.Until(); until.Before(from) {
				from = until
			}
		}
		_ = l.Release(context.Background())
		r.ended(client, resource, l.Token(), from, time.Now())
	}
}

// run lets clients compete for some time while faults happen, and returns what they have seen.
func run(clients []acquirer, length time.Duration, faults func()) *recorder {
	r := newRecorder()
	over := make(chan struct{})
	var all sync.WaitGroup
	for i, acquire := range clients {
		all.Go(func() { work(r, i, acquire, over) })
	}
	for begin := time.Now(); ; {
		faults()
		if took := time.Since(begin); took > length && r.tenures() >= enough || took > patience+length {
			break
		}
	}
	close(over)
	all.Wait()
	return r
}

// pause lets time pass between faults.
func pause(d time.Duration) { <-time.After(d) }

// setup returns servers and clients of three managers on them, which take locks in all ways.
func setup(t *testing.T, count int) ([]*redistest.Server, []acquirer) {
	t.Helper()
	servers := redistest.StartN(t, count)
	var clients []acquirer
	for range 3 {
		nodes := make([]redis.UniversalClient, count)
		for i, s := range servers {
			c := redis.NewClient(&redis.Options{
				Addr: s.Addr(), ContextTimeoutEnabled: true,
				MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
			})
			t.Cleanup(func() { _ = c.Close() })
			nodes[i] = c
		}
		m, err := lock.NewRedisLockManager(nil, lock.WithNodes(nodes...))
		require.NoError(t, err)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			_ = m.Close(ctx)
		})
		short := m.With(lock.WithRenewal(false)) // its locks expire
		clients = append(clients,
			func(ctx context.Context, resource string) (lock.FencedLock, error) {
				return m.AcquireWait(ctx, resource, ttl)
			},
			func(ctx context.Context, resource string) (lock.FencedLock, error) {
				return short.AcquireWait(ctx, resource, ttl)
			},
			func(ctx context.Context, resource string) (lock.FencedLock, error) {
				return short.TryAcquire(ctx, resource, ttl)
			},
			func(ctx context.Context, resource string) (lock.FencedLock, error) {
				l, err := m.Acquire(ctx, resource, ttl)
				if err != nil {
					return nil, err
				}
				return l.(lock.FencedLock), nil
			},
		)
	}
	return servers, clients
}

// killClients cuts all connections of a server, from within.
func killClients(t *testing.T, s *redistest.Server) {
	t.Helper()
	c := s.Client(t)
	for _, kind := range []string{"normal", "pubsub"} {
		assert.NoError(t, c.Do(t.Context(), "CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes").Err())
	}
}

func TestHistoriesOnOneServer(t *testing.T) {
	t.Parallel()
	servers, clients := setup(t, 1)
	s := servers[0]
	r := run(clients, chaos, func() {
		pause(rand.N(ttl))
		killClients(t, s)
		pause(rand.N(ttl))
		s.Stop()
		pause(rand.N(2 * ttl)) // so that some expire meanwhile, and are told after it was continued
		s.Continue()
	})
	t.Logf("%d tenures, %d lost", r.tenures(), r.losses)
	assert.GreaterOrEqual(t, r.tenures(), enough)
	assert.Positive(t, r.losses, "locks expire")
	assert.Equal(t, porcupine.Ok, r.check())
}

func TestHistoriesOnThreeMasters(t *testing.T) {
	t.Parallel()
	servers, clients := setup(t, 3)
	r := run(clients, chaos, func() {
		pause(rand.N(ttl))
		killClients(t, servers[rand.N(3)])
		i := rand.N(3)
		servers[i].Stop()
		pause(rand.N(2 * ttl))
		if rand.N(2) == 0 { // no majority
			servers[(i+1)%3].Stop()
			pause(rand.N(2 * ttl))
			servers[(i+1)%3].Continue()
		}
		servers[i].Continue()
	})
	t.Logf("%d tenures, %d lost", r.tenures(), r.losses)
	assert.GreaterOrEqual(t, r.tenures(), enough)
	assert.Positive(t, r.losses, "locks expire")
	assert.Equal(t, porcupine.Ok, r.check())
}

// TestHistoryOfDeletedKeys: keys that somebody deletes make two holders, which no client can see in time. The recorded
// history must tell.
func TestHistoryOfDeletedKeys(t *testing.T) {
	t.Parallel()
	servers, clients := setup(t, 1)
	c := servers[0].Client(t)
	r := run(clients, brief, func() {
		pause(20 * time.Millisecond)
		assert.NoError(t, c.Del(t.Context(), "cache:lock:{a}", "cache:lock:{b}").Err())
	})
	assert.Equal(t, porcupine.Illegal, r.check())
}

// TestHistoryOfStaleFences: masters that go back to an earlier counter, as those do that are restored, repeat tokens. The
// recorded history must tell.
func TestHistoryOfStaleFences(t *testing.T) {
	t.Parallel()
	servers, clients := setup(t, 3)
	r := run(clients, brief, func() {
		pause(20 * time.Millisecond)
		for _, s := range servers {
			for _, resource := range []string{"a", "b"} {
				assert.NoError(t, s.Client(t).Set(t.Context(), "cache:lock:{"+resource+"}:fence", 1_000_000, 0).Err())
			}
		}
	})
	assert.Equal(t, porcupine.Illegal, r.check())
}

// fake is a lock that nobody watches.
type fake struct {
	lock.FencedLock

	token   int64
	until   time.Time
	release func()
}

func (f *fake) Token() int64                  { return f.token }
func (f *fake) Until() time.Time              { return f.until }
func (f *fake) IsHeld() bool                  { return time.Now().Before(f.until) }
func (f *fake) Lost() <-chan struct{}         { return nil }
func (f *fake) Release(context.Context) error { f.release(); return nil }

// TestHistoriesOfFakes proves that a lock with two holders is caught, and that one holder passes.
func TestHistoriesOfFakes(t *testing.T) {
	t.Parallel()
	for holders, want := range map[int]porcupine.CheckResult{1: porcupine.Ok, 2: porcupine.Illegal} {
		t.Run(map[int]string{1: "one holder", 2: "two holders"}[holders], func(t *testing.T) {
			t.Parallel()
			var last atomic.Int64
			rooms := map[string]chan struct{}{"a": make(chan struct{}, holders), "b": make(chan struct{}, holders)}
			acquire := func(ctx context.Context, resource string) (lock.FencedLock, error) {
				select {
				case rooms[resource] <- struct{}{}:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
				return &fake{
					token: last.Add(1), until: time.Now().Add(time.Hour), release: func() { <-rooms[resource] },
				}, nil
			}
			r := run([]acquirer{acquire, acquire, acquire}, brief, func() { pause(20 * time.Millisecond) })
			assert.Equal(t, want, r.check())
		})
	}
}
