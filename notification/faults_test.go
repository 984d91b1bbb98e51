package notification_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

// FuzzFaults lets chance decide what happens to Redis, and who comes, leaves and resumes, while events are published: on two
// servers that the test sets up, or on two that sentinels watch, which replace the master once; in this process alone, or in
// another one too, which is killed when it is its turn to leave. Its seeds are part of every test run; make fuzz tries others.
func FuzzFaults(f *testing.F) {
	for seed := range uint64(6) {
		f.Add(seed, false, false)
	}
	f.Add(uint64(6), false, true)
	f.Add(uint64(7), false, true)
	for way := range uint64(ways) {
		f.Add(way, true, way%2 == 0)
	}
	f.Fuzz(func(t *testing.T, seed uint64, sentinel, process bool) {
		t.Parallel()
		m := newModel(t, seed, sentinel, process)
		// A fuzzer takes an input for hung after ten seconds, so a slow machine does less with it.
		for end := time.Now().Add(4 * time.Second); m.steps > 0 && time.Now().Before(end); m.steps-- {
			harm := m.harm(t)
			var publishing sync.WaitGroup
			publishing.Go(m.publishing(t))
			harm()
			if m.IntN(4) == 0 && !m.unsure { // one that resumes does not learn of a failover that it had not noticed
				m.restart(t, m.IntN(len(m.listeners)))
			}
			publishing.Wait()
			if m.sentinel == nil {
				m.changes.Store(0) // as soon as it was done, nothing more could be lost
			}
			if m.IntN(4) == 0 {
				m.join(t)
			}
		}
		m.settle(t)
		for _, l := range append(m.left, m.listeners...) {
			m.verify(t, l)
		}
	})
}

// model is a system, a server that comes to harm, and what is known of both.
type model struct {
	*rand.Rand

	topology
	steps     int // that are still to come
	system    *notification.RedisNotificationSystem
	publisher *notification.RedisNotificationSystem
	process   *process // the other one, if there is one
	authors   []*author
	listeners []*listener
	left      []*listener
	unsure    bool // a failover may have lost events that not all have got
}

// historyOf is how many events the journal keeps.
func historyOf(random *rand.Rand) notification.Option {
	return notification.WithHistory(100+random.IntN(500), 0)
}

// listening are the options of those who listen.
func listening(random *rand.Rand) []notification.Option {
	return []notification.Option{
		notification.WithBufferSize(1 + random.IntN(8)), notification.WithHeartbeat(500 * time.Millisecond),
		notification.WithLongestPause(10 * time.Millisecond), notification.WithUnsubscribeDelay(-1),
		notification.WithPingTimeout(5 * time.Second),
	}
}

func newModel(t *testing.T, seed uint64, sentinel, process bool) *model {
	t.Helper()
	m := &model{Rand: rand.New(rand.NewPCG(seed, 0)), steps: 20}
	var opts []redistest.Option
	if m.IntN(2) == 0 {
		opts = append(opts, redistest.WithPersistence())
	}
	if sentinel {
		m.steps = 8
		m.sentinel, m.way, m.turn = redistest.StartSentinel(t, opts...), int(seed%ways), m.steps-m.IntN(m.steps/2)
		m.server, m.replica = m.sentinel.Master(), m.sentinel.Replica()
	} else {
		m.server, m.replica = redistest.Start(t, opts...), redistest.Start(t, opts...)
		m.replicate(t)
	}
	client := func() redis.UniversalClient {
		c, to := m.place().client()
		t.Cleanup(func() { _ = c.Close() })
		m.switches = append(m.switches, to)
		return c
	}
	core, logs := observer.New(zap.DebugLevel)
	t.Cleanup(func() {
		for _, entry := range logs.All() {
			t.Log(entry.Time.Format(time.StampMicro), entry.Message, entry.ContextMap())
		}
	})
	history := historyOf(m.Rand)
	m.system = newSystem(t, client(), append(listening(m.Rand), history, notification.WithLogger(zap.New(core)))...)
	m.publisher = newSystem(t, client(), history)
	m.authors = []*author{newAuthor(0, &m.changes)}
	for range 3 {
		m.join(t)
	}
	if process {
		m.begin(t, &listener{pattern: m.name(), behind: m.published()}, "")
	}
	return m
}

// publishing returns something that publishes some events of everybody who is there now, alone and in batches.
func (m *model) publishing(t *testing.T) func() {
	t.Helper()
	process, self := m.process, m.authors[0]
	return func() {
		var group sync.WaitGroup
		if process != nil {
			group.Go(process.publish)
		}
		self.over(publishSome(t.Context(), m.publisher, self.by, self.sofar(), self.published))
		group.Wait()
	}
}

// alive returns the authors who publish.
func (m *model) alive() []*author {
	if m.process == nil {
		return m.authors[:1]
	}
	return []*author{m.authors[0], m.process.author}
}

// published returns what everybody has published last.
func (m *model) published() map[*author]int {
	last := make(map[*author]int)
	for _, a := range m.authors {
		last[a] = a.sofar()
	}
	return last
}

// settle waits until everybody has got what was published last. It is not noticed if a journal is deleted in which nobody
// has seen an event.
func (m *model) settle(t *testing.T) {
	t.Helper()
	m.reunite(t)
	start, publish := m.published(), m.publishing(t)
	require.Eventually(t, func() bool {
		publish()
		return !slices.ContainsFunc(m.listeners, func(l *listener) bool {
			return slices.ContainsFunc(m.alive(), func(a *author) bool { return l.last(a) <= start[a] })
		})
	}, 2*patience, time.Millisecond)
	for _, a := range m.alive() {
		last := a.lastSent()
		require.Eventually(t, func() bool {
			return !slices.ContainsFunc(m.listeners, func(l *listener) bool { return l.last(a) < last })
		}, 2*patience, time.Millisecond, "number %d of author %d never arrived", last, a.by)
	}
	m.unsure = false
	m.changed()
}

// name returns something to listen to.
func (m *model) name() string {
	names := []string{"task:events", "task:T", "task:workflow:W", "task:*", "t*", "task:[a-z]*"}
	return names[m.IntN(len(names))]
}

func (m *model) join(t *testing.T) {
	t.Helper()
	s := subscribe(t, m.system, m.name())
	m.listeners = append(m.listeners, &listener{recorder: record(t, s), pattern: s.Pattern(), behind: m.published()})
}

// restart ends a subscriber, and lets another one go on behind the last event that it received. Another process is killed.
func (m *model) restart(t *testing.T, index int) {
	t.Helper()
	old := m.listeners[index]
	if old.lastID() == "" {
		return // there is nothing to go on from
	}
	m.listeners = slices.Delete(m.listeners, index, index+1)
	m.left = append(m.left, old)
	if old.process != nil {
		old.process.kill()
	} else {
		_ = old.sub.Close()
	}
	<-old.done
	id, l := old.lastID(), &listener{pattern: old.pattern, behind: make(map[*author]int), lost: make(map[*author]bool)}
	for _, a := range m.authors {
		l.behind[a], l.lost[a] = max(old.behind[a], old.last(a)), old.endsWithGap(a)
	}
	if old.process != nil {
		m.begin(t, l, id)
		return
	}
	s := m.system.SubscribeFrom(context.WithoutCancel(t.Context()), l.pattern, id)
	require.NoError(t, s.Err())
	l.recorder = record(t, s)
	l.after = id
	m.listeners = append(m.listeners, l)
}

// begin starts the other process, as an author and a listener.
func (m *model) begin(t *testing.T, l *listener, after string) {
	t.Helper()
	a := newAuthor(len(m.authors), &m.changes)
	m.process = startParty(t, a, party{By: a.by, Place: m.place(), Pattern: l.pattern, After: after, Seed: m.Uint64()})
	m.authors, m.switches = append(m.authors, m.process.author), append(m.switches, m.process.to)
	l.process, l.recorder = m.process, m.process.recorder
	m.listeners = append(m.listeners, l)
}
