package lock_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/lock"
)

const (
	// maskTimeout is what each node has to answer, in the tests with masks.
	maskTimeout = 300 * time.Millisecond
	// maskSlack is for a busy machine. It is less than what a client alone would wait for a server.
	maskSlack = 2500 * time.Millisecond
	// foreign is the value of somebody else.
	foreign = "somebody"
	// soon is when what is left behind has to be gone: before it would end by itself, 10s after it was granted.
	soon = 8 * time.Second
)

// mask says how many of the nodes of a manager are what.
type mask struct{ healthy, refused, down, stopped, clogged int }

func (m mask) nodes() int { return m.healthy + m.refused + m.down + m.stopped + m.clogged }

func (m mask) String() string {
	return fmt.Sprintf("%d healthy, %d refused, %d down, %d stopped, %d clogged", m.healthy, m.refused, m.down, m.stopped, m.clogged)
}

// masks returns every combination for a number of nodes. Which node is what does not matter: the nodes are shuffled.
func masks(nodes int) (all []mask) {
	for refused := range nodes + 1 {
		for down := range nodes + 1 - refused {
			for stopped := range nodes + 1 - refused - down {
				for clogged := range nodes + 1 - refused - down - stopped {
					all = append(all, mask{nodes - refused - down - stopped - clogged, refused, down, stopped, clogged})
				}
			}
		}
	}
	return all
}

// ward is servers that are healthy, down, stopped and clogged, enough of each for every mask of up to five nodes. A node
// that refuses is a healthy one where the resource has a foreign value.
type ward struct {
	healthy, down, stopped, behind []*redistest.Server
	proxies                        []*faultproxy.Proxy
	clients                        map[string][]redis.UniversalClient
}

func newWard(t *testing.T) *ward {
	t.Helper()
	const most = 5
	servers := redistest.StartN(t, 4*most)
	w := &ward{
		healthy: servers[:most], down: servers[most : 2*most], stopped: servers[2*most : 3*most], behind: servers[3*most:],
		clients: make(map[string][]redis.UniversalClient),
	}
	connect := func(kind, addr string) {
		c := newClient(t, addr)
		require.NoError(t, c.Ping(t.Context()).Err()) // a connection that was good
		w.clients[kind] = append(w.clients[kind], c)
	}
	for i := range most {
		connect("healthy", w.healthy[i].Addr())
		connect("down", w.down[i].Addr())
		connect("stopped", w.stopped[i].Addr())
		w.proxies = append(w.proxies, faultproxy.New(t, w.behind[i].Addr()))
		connect("clogged", w.proxies[i].Addr())
	}
	for i := range most {
		w.down[i].Kill()
		w.stopped[i].Stop()
		if i%2 == 0 {
			w.proxies[i].SwallowToServer(true)
		} else {
			w.proxies[i].SwallowToClient(true)
		}
	}
	return w
}

// heal ends what is wrong with the servers.
func (w *ward) heal() {
	for i := range w.down {
		w.down[i].Restart()
		w.stopped[i].Continue()
		w.proxies[i].SwallowToServer(false)
		w.proxies[i].SwallowToClient(false)
		w.proxies[i].Cut()
	}
}

// TestQuorumMasks: whatever a node can be, in every combination.
func TestQuorumMasks(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	const atATime = 24 // most of them wait
	work := make(chan mask)
	var all sync.WaitGroup
	for range atATime {
		all.Go(func() {
			for m := range work {
				w.try(t, m)
			}
		})
	}
	tried := 0
	for _, nodes := range []int{3, 4, 5} {
		for _, m := range masks(nodes) {
			work <- m
			tried++
		}
	}
	close(work)
	all.Wait()
	assert.Equal(t, 35+70+126, tried)

	// The managers are still there and see to what they have left on the servers that come back.
	w.heal()
	for _, servers := range [][]*redistest.Server{w.healthy, w.down, w.stopped, w.behind} {
		for _, s := range servers {
			client := s.Client(t)
			require.Eventually(t, func() bool {
				for _, key := range client.Keys(t.Context(), "cache:lock:*}").Val() {
					if client.Get(t.Context(), key).Val() != foreign {
						return false
					}
				}
				return true
			}, soon, tick)
		}
	}
}

// try acquires and releases a lock on nodes of a mask.
func (w *ward) try(t *testing.T, m mask) {
	t.Helper()
	clients := append([]redis.UniversalClient(nil), w.clients["healthy"][:m.healthy+m.refused]...)
	clients = append(clients, w.clients["down"][:m.down]...)
	clients = append(clients, w.clients["stopped"][:m.stopped]...)
	clients = append(clients, w.clients["clogged"][:m.clogged]...)
	rand.Shuffle(len(clients), func(i, k int) { clients[i], clients[k] = clients[k], clients[i] })
	resource := m.String()
	key := "cache:lock:{" + resource + "}"
	for _, c := range w.clients["healthy"][:m.refused] {
		if !assert.NoError(t, c.Set(t.Context(), key, foreign, 0).Err(), m) {
			return
		}
	}
	free := w.clients["healthy"][m.refused : m.refused+m.healthy]
	left := func() int {
		n := 0
		for _, c := range free {
			n += int(c.Exists(t.Context(), key, key+":queue", key+":next").Val())
		}
		return n
	}
	manager := newManager(t, nil, lock.WithNodes(clients...), lock.WithNodeTimeout(maskTimeout))

	begin := time.Now()
	l, err := manager.TryAcquire(t.Context(), resource, time.Hour)
	took := time.Since(begin)
	assert.Less(t, took, maskTimeout+maskSlack, m)
	switch majority := m.nodes()/2 + 1; {
	case m.healthy >= majority:
		if !assert.NoError(t, err, m) {
			return
		}
		assert.True(t, l.IsHeld(), m)
		assert.Positive(t, l.Token(), m)
		assert.GreaterOrEqual(t, left(), majority, m)
		assert.NoError(t, l.Refresh(t.Context()), m)
		begin = time.Now()
		assert.NoError(t, l.Release(t.Context()), m)
		assert.Less(t, time.Since(begin), maskTimeout+maskSlack, m)
		assert.ErrorIs(t, l.Release(t.Context()), lock.ErrLockNotHeld, m)
	case m.refused > 0 && m.healthy+m.refused >= majority: // a majority works, and somebody is there
		assert.ErrorIs(t, err, lock.ErrLockNotAcquired, m)
		assert.NotErrorIs(t, err, lock.ErrRedis, m)
	default:
		assert.ErrorIs(t, err, lock.ErrRedis, m)
		assert.NotErrorIs(t, err, lock.ErrLockNotAcquired, m)
	}
	assert.Eventually(t, func() bool { return left() == 0 }, soon, tick, m)
	for _, c := range w.clients["healthy"][:m.refused] {
		assert.Equal(t, foreign, c.Get(t.Context(), key).Val(), m)
	}
}
