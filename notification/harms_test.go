package notification_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// topology is the servers of a model.
type topology struct {
	server   *redistest.Server // the master
	replica  *redistest.Server
	switches []func(addr string) // what lets connections be made to another address

	sentinel *redistest.Sentinel // nil without
	way      int                 // how it replaces the master
	turn     int                 // how many steps are still to come when it does
	divided  bool                // the former master takes itself for the master still
	stayed   bool                // it is a replica, and some are connected to it still

	failovers []failover
	changes   atomic.Int32 // the number of the failover under way, counted from 1; 0 without one
}

// failover is the time from when it begins until everybody has got something that was published after it.
type failover struct{ began, ended time.Time }

// changing notes that a failover begins.
func (m *topology) changing() {
	m.failovers = append(m.failovers, failover{began: time.Now()})
	m.changes.Store(int32(len(m.failovers))) //nolint:gosec // a few
}

// changed notes that everybody has got something that was published after it.
func (m *topology) changed() {
	m.changes.Store(0)
	for i := range m.failovers {
		if f := &m.failovers[i]; f.ended.IsZero() {
			f.ended = time.Now()
		}
	}
}

// place says where Redis is.
type place struct {
	Addr      string   // of the master
	Master    string   // its name
	Sentinels []string // that know it by that name, if there are any
}

func (m *topology) place() place {
	if m.sentinel == nil {
		return place{Addr: m.server.Addr()}
	}
	return place{Master: m.sentinel.MasterName(), Sentinels: m.sentinel.Addrs()}
}

// client returns a client, and what makes it connect to another address.
func (p place) client() (client redis.UniversalClient, to func(addr string)) {
	if p.Sentinels == nil {
		client, target := newSwitched(p.Addr)
		return client, func(addr string) { target.Store(&addr) }
	}
	return redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: p.Master, SentinelAddrs: p.Sentinels, ContextTimeoutEnabled: true,
		DialTimeout: 500 * time.Millisecond, ReadTimeout: 500 * time.Millisecond,
	}), func(string) {}
}

// harm returns something that is done to the servers or to connections.
func (m *model) harm(t *testing.T) func() {
	t.Helper()
	if m.stayed {
		m.settle(t)
	}
	admin := m.server.Client(t)
	kill := func(kind string) {
		require.NoError(t, admin.ClientKillByFilter(t.Context(), "type", kind, "skipme", "yes").Err())
	}
	del := func() { require.NoError(t, admin.Del(t.Context(), journalKey).Err()) }
	what := m.IntN(13)
	switch {
	case m.sentinel == nil:
	case m.steps == m.turn:
		what = 100 + m.way
	default:
		what %= 10 // the others are for the sentinels to do
	}
	t.Logf("%s harm %d", time.Now().Format(time.StampMicro), what)
	switch what {
	case 0, 1, 2:
		return func() { kill("pubsub") }
	case 3, 4:
		return func() { kill("normal") } // replies are lost
	case 5:
		m.settle(t)
		return del
	case 6:
		m.settle(t)
		return func() {
			kill("pubsub")
			del()
		}
	case 7:
		return func() {
			// An event of the same millisecond may get the ID of a lost one. A subscription that resumes from that ID cannot tell them apart.
			_, err := admin.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
				p.FlushAll(t.Context())
				return p.Do(t.Context(), "client", "pause", 2).Err()
			})
			require.NoError(t, err)
		}
	case 8:
		return func() {
			m.server.Stop()
			m.server.Continue()
		}
	case 9:
		return m.server.Restart
	case 10, 11, 12: // somebody may be connected to the replica, and hear what the new master publishes before the gap is known
		m.changing()
		return func() { m.failOver(t, []int{byDeath, byDemotion, byFreezing}[what-10]) }
	default:
		if m.process != nil && m.way != byDeath {
			m.changing()
		}
		return func() { m.electNew(t) }
	}
}

// failOver lets the replica take the place of the master, which becomes a replica of that: once it is brought back, or at once, or
// when it wakes up and has executed what was sent to it. It keeps its connections but in the first case.
func (m *model) failOver(t *testing.T, way int) {
	t.Helper()
	m.unsure, m.stayed = true, way != byDeath
	m.replicated(t)
	former := m.server
	m.server, m.replica = m.replica, m.server
	switch way {
	case byDeath:
		former.Kill()
	case byFreezing:
		former.Stop()
	default: // before there is another master, which nobody is connected to: what both take would be lost at any time
		require.NoError(t, former.Client(t).Do(t.Context(), "replicaof", m.server.Host(), m.server.Port()).Err())
	}
	require.NoError(t, m.server.Client(t).Do(t.Context(), "replicaof", "no", "one").Err())
	for _, to := range m.switches {
		to(m.server.Addr())
	}
	switch way {
	case byDeath:
		former.Restart()
	case byFreezing:
		former.Continue()
	}
	m.replicate(t)
}

// The ways in which a master is replaced, by sentinels or without.
const (
	inOrder    = iota // it lives, and loses its connections
	byDeath           // it comes back, for the sentinels to make a replica of
	byFreezing        // it wakes up, and has its connections until the sentinels make a replica of it
	byDemotion        // it wakes up, and somebody else makes a replica of it, which keeps its connections
	ways
)

// electNew lets the sentinels replace the master.
func (m *model) electNew(t *testing.T) {
	t.Helper()
	m.unsure = true
	m.replicated(t)
	switch m.way {
	case inOrder:
		m.sentinel.Failover(t)
	case byDeath:
		m.sentinel.KillMaster(t)
		m.sentinel.Replica().Restart()
	default:
		m.sentinel.FreezeMaster(t)
		m.sentinel.Replica().Continue()
		m.divided = true
	}
	m.server, m.replica = m.sentinel.Master(), m.sentinel.Replica()
	if m.way == byDemotion {
		m.divided, m.stayed = false, true
		m.replicate(t)
	}
}

// reunite ends what a failover has left behind: nobody is connected to anything but the master.
func (m *model) reunite(t *testing.T) {
	t.Helper()
	if m.divided {
		m.divided = false
		m.sentinel.Reunite(t)
	}
	if !m.stayed {
		return
	}
	m.stayed = false
	m.settle(t) // they learn of it by what they receive
	for _, kind := range []string{"pubsub", "normal"} {
		require.NoError(t, m.replica.Client(t).ClientKillByFilter(t.Context(), "type", kind, "skipme", "yes").Err())
	}
}

func (m *model) replicate(t *testing.T) {
	t.Helper()
	require.NoError(t, m.replica.Client(t).Do(t.Context(), "replicaof", m.server.Host(), m.server.Port()).Err())
	m.replicated(t)
}

// replicated waits until the replica has got what the master had, and would not come back with anything else.
func (m *model) replicated(t *testing.T) {
	t.Helper()
	master, replica := m.server.Client(t), m.replica.Client(t)
	require.Eventually(t, func() bool {
		_, history, _ := strings.Cut(master.Info(t.Context(), "replication").Val(), "master_replid:")
		history, _, _ = strings.Cut(history, "\r\n")
		info := replica.Info(t.Context(), "replication", "persistence").Val()
		for _, want := range []string{
			"master_link_status:up", "master_replid:" + history, "aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0",
		} {
			if !strings.Contains(info, want) {
				return false
			}
		}
		return true
	}, patience, time.Millisecond)
}
