package notification_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// FuzzFaults lets chance decide what happens to Redis, and who comes, leaves and resumes, while events are published. Its
// seeds are part of every test run; make fuzz tries others.
func FuzzFaults(f *testing.F) {
	for seed := range uint64(6) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		t.Parallel()
		const steps = 20
		m := newModel(t, rand.New(rand.NewPCG(seed, 0)))
		for range steps {
			harm := m.harm(t)
			var publishing sync.WaitGroup
			publishing.Go(func() { m.publish(t) })
			harm()
			if m.IntN(4) == 0 && !m.unsure { // one that resumes does not learn of a failover that it had not noticed
				m.restart(t, m.IntN(len(m.listeners)))
			}
			publishing.Wait()
			if m.IntN(4) == 0 {
				m.join(t)
			}
		}
		m.settle(t)
		for _, l := range append(m.left, m.listeners...) {
			m.verify(t, &l)
		}
	})
}

// model is a system, a server that comes to harm, and what is known of both.
type model struct {
	*rand.Rand

	server    *redistest.Server // the master
	replica   *redistest.Server
	switches  []*atomic.Pointer[string] // where connections are made to
	system    *notification.RedisNotificationSystem
	publisher publisher
	listeners []listener
	left      []listener
	unsure    bool // a failover may have lost events that not all have got
}

// listener is a subscription to which all belongs that was published after a number.
type listener struct {
	*recorder

	behind int
}

func newModel(t *testing.T, random *rand.Rand) *model {
	t.Helper()
	var opts []redistest.Option
	if random.IntN(2) == 0 {
		opts = append(opts, redistest.WithPersistence())
	}
	m := &model{Rand: random, server: redistest.Start(t, opts...), replica: redistest.Start(t, opts...)}
	m.replicate(t)
	client := func() redis.UniversalClient {
		c, target := switched(t, m.server.Addr())
		m.switches = append(m.switches, target)
		return c
	}
	core, logs := observer.New(zap.DebugLevel)
	t.Cleanup(func() {
		for _, entry := range logs.All() {
			t.Log(entry.Time.Format(time.StampMicro), entry.Message, entry.ContextMap())
		}
	})
	history := notification.WithHistory(100+m.IntN(500), 0)
	m.system = newSystem(t, client(), history, notification.WithBufferSize(1+m.IntN(8)),
		notification.WithHeartbeat(500*time.Millisecond), notification.WithLongestPause(10*time.Millisecond),
		notification.WithUnsubscribeDelay(-1), notification.WithLogger(zap.New(core)))
	m.publisher.system = newSystem(t, client(), history)
	for range 3 {
		m.join(t)
	}
	return m
}

// publish publishes some events, alone and in batches.
func (m *model) publish(t *testing.T) {
	t.Helper()
	p := &m.publisher
	task := func() *notification.TaskEvent {
		p.last++
		return &notification.TaskEvent{ID: "T", WorkflowID: "W", Data: numbered{p.last}}
	}
	for range 10 {
		first := p.last + 1
		err := p.system.PublishTaskEvent(t.Context(), task())
		if err == nil && first%5 == 0 {
			err = p.system.PublishBatch(t.Context(), task(), task(), task())
		}
		for n := first; n <= p.last && err == nil; n++ {
			p.sent = append(p.sent, n)
		}
	}
}

// harm returns something that is done to the server or to connections.
func (m *model) harm(t *testing.T) func() {
	t.Helper()
	admin := m.server.Client(t)
	kill := func(kind string) {
		require.NoError(t, admin.ClientKillByFilter(t.Context(), "type", kind, "skipme", "yes").Err())
	}
	del := func() { require.NoError(t, admin.Del(t.Context(), journalKey).Err()) }
	what := m.IntN(11)
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
		return func() { require.NoError(t, admin.FlushAll(t.Context()).Err()) }
	case 8:
		return func() {
			m.server.Stop()
			m.server.Continue()
		}
	case 9:
		return m.server.Restart
	default:
		return func() { m.failOver(t) }
	}
}

// failOver kills the master, whose place its replica takes, and brings it back as a replica of that.
func (m *model) failOver(t *testing.T) {
	t.Helper()
	m.replicated(t)
	m.server.Kill()
	m.server, m.replica = m.replica, m.server
	require.NoError(t, m.server.Client(t).Do(t.Context(), "replicaof", "no", "one").Err())
	addr := m.server.Addr()
	for _, target := range m.switches {
		target.Store(&addr)
	}
	m.replica.Restart()
	m.replicate(t)
	m.unsure = true
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

// settle waits until everybody has got what was published last. It is not noticed if a journal is deleted in which nobody
// has seen an event.
func (m *model) settle(t *testing.T) {
	t.Helper()
	p := &m.publisher
	start := p.last
	require.Eventually(t, func() bool {
		m.publish(t)
		return !slices.ContainsFunc(m.listeners, func(l listener) bool { return l.last() <= start })
	}, 2*patience, time.Millisecond)
	for _, l := range m.listeners {
		l.reached(t, p.sent[len(p.sent)-1])
	}
	m.unsure = false
}

func (m *model) join(t *testing.T) {
	t.Helper()
	names := []string{"task:events", "task:T", "task:workflow:W", "task:*", "t*", "task:[a-z]*"}
	s := subscribe(t, m.system, names[m.IntN(len(names))])
	m.listeners = append(m.listeners, listener{record(t, s), m.publisher.last})
}

// restart ends a subscriber, who has got what he has got, and lets him go on from there.
func (m *model) restart(t *testing.T, index int) {
	t.Helper()
	old := m.listeners[index]
	if old.last() == 0 {
		return // there is nothing to go on from
	}
	_ = old.sub.Close()
	<-old.done
	m.left = append(m.left, old)
	id := old.messages[len(old.messages)-1].EventID
	s := m.system.SubscribeFrom(context.WithoutCancel(t.Context()), old.sub.Pattern(), id)
	require.NoError(t, s.Err())
	r := record(t, s)
	r.after = id
	m.listeners[index] = listener{r, old.last()}
}

// verify looks at what a listener has got.
func (m *model) verify(t *testing.T, l *listener) {
	t.Helper()
	last := l.last()
	var sent []int
	for _, n := range m.publisher.sent {
		if n > l.behind && n <= last {
			sent = append(sent, n)
		}
	}
	defer func() {
		if t.Failed() {
			l.show(t)
		}
	}()
	l.verify(t, sent)
}

// show logs what a listener has got. A seed gives the same faults again, but not at the same moments.
func (l *listener) show(t *testing.T) {
	t.Helper()
	t.Logf("%s listened after %d, %q:", l.sub, l.behind, l.after)
	for i, m := range l.messages {
		number, _ := numberOf(m)
		t.Logf("message %d: number %d, ID %s, published %s, recovered %v, gap %+v",
			i, number, m.EventID, m.Time.Format(time.StampMicro), m.Recovered, m.Gap)
	}
}
