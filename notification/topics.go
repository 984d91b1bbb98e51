package notification

import (
	"maps"
	"slices"
	"sync"

	"github.com/compozy/cache/notification/internal/feed"
	"github.com/compozy/cache/notification/internal/journal"
)

// asker learns which names are wanted, and sends heartbeats. It is a *feed.Feed.
type asker interface {
	Add(names ...feed.Name)
	Remove(names ...feed.Name)
	NextBeat() uint64
	BeatSoon() uint64
}

// topics knows every name that this process listens to, and who listens. Locks are taken in the order topics, topic,
// subscription.
type topics struct {
	asker asker

	mu      sync.Mutex
	byName  map[feed.Name]*topic
	count   int                        // open subscriptions
	joining map[*Subscription]struct{} // those that are not live yet
}

// topic is one name with the local subscriptions to it. Redis is asked for it once, whatever their number.
type topic struct {
	feed.Name

	mu        sync.Mutex
	subs      []*Subscription
	confirmed uint64           // the session in which Redis has confirmed the name last
	foreign   bool             // other programs publish to it
	last      copied           // the event delivered last, to know the copies that follow
	passed    journal.Position // the last event of the journal that was delivered live
	recent    recent           // of these, the last ones, while somebody is behind
}

// recent are the last messages of a name, for those who have read almost all of the journal: before they had read the rest,
// there would be more.
type recent struct {
	behind   int              // subscriptions that are
	from     journal.Position // all that passed behind this is in messages
	messages []positioned
	bytes    int
}

type positioned struct {
	*Message
	pos journal.Position
}

// What recent holds at most.
const (
	maxRecent      = 256
	maxRecentBytes = 1 << 20
)

// add keeps a message, if need be in place of older ones.
func (r *recent) add(m *Message, pos journal.Position) {
	if r.behind == 0 {
		return
	}
	r.messages = append(r.messages, positioned{m, pos})
	r.bytes += len(m.Payload)
	for len(r.messages) > maxRecent || r.bytes > maxRecentBytes {
		r.from = r.messages[0].pos
		r.bytes -= len(r.messages[0].Payload)
		r.messages[0] = positioned{}
		r.messages = r.messages[1:]
	}
}

// enter counts one more subscription that is behind. The last event that has passed is given.
func (r *recent) enter(passed journal.Position) {
	if r.behind == 0 {
		r.from = passed
	}
	r.behind++
}

// leave counts one less.
func (r *recent) leave() {
	if r.behind--; r.behind == 0 {
		*r = recent{}
	}
}

// restart forgets all, as positions have lost their meaning, and begins behind the event given.
func (r *recent) restart(passed journal.Position) {
	*r = recent{behind: r.behind, from: passed}
}

// copied is what the copies of one event have in common.
type copied struct{ id, stamp string }

func newTopics() *topics {
	return &topics{byName: make(map[feed.Name]*topic), joining: make(map[*Subscription]struct{})}
}

// attach adds a subscription and asks for a heartbeat, which makes it live: what comes back with that was published before
// it, so what comes behind it is for s.
func (ts *topics) attach(s *Subscription) {
	ts.add(s)
	ts.asker.BeatSoon() // when s is there to see it
}

func (ts *topics) add(s *Subscription) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.byName[s.name]
	if t == nil {
		t = &topic{Name: s.name}
		ts.byName[t.Name] = t
		ts.asker.Add(t.Name) // with the lock held, so that it is not overtaken by a Remove
	}
	ts.count++
	ts.joining[s] = struct{}{}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.topic, s.index, s.beat = t, len(t.subs), ts.asker.NextBeat()
	t.subs = append(t.subs, s)
}

// detach removes a subscription.
func (ts *topics) detach(s *Subscription) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.joining, s)
	t := s.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.index < 0 {
		return
	}
	// The last one takes the free place: with ten thousand subscribers, nothing may be moved on.
	last := len(t.subs) - 1
	t.subs[s.index] = t.subs[last]
	t.subs[s.index].index = s.index
	t.subs[last] = nil
	t.subs = t.subs[:last]
	s.index = -1
	s.mu.Lock()
	if s.state == behind { // it is closed, so that stays
		t.recent.leave()
	}
	s.mu.Unlock()
	ts.count--
	if last == 0 && ts.byName[t.Name] == t { // not dropped meanwhile
		delete(ts.byName, t.Name)
		ts.asker.Remove(t.Name)
	}
}

// drop forgets a name that Redis has refused, and returns its subscriptions. One that comes later begins afresh.
func (ts *topics) drop(n feed.Name) []*Subscription {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.byName[n]
	if t == nil {
		return nil
	}
	delete(ts.byName, n)
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.subs)
}

// lookup returns the topic of a name, or nil.
func (ts *topics) lookup(n feed.Name) *topic {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.byName[n]
}

// all returns every topic.
func (ts *topics) all() []*topic {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return slices.Collect(maps.Values(ts.byName))
}

// waiting returns the subscriptions that are not live yet.
func (ts *topics) waiting() []*Subscription {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return slices.Collect(maps.Keys(ts.joining))
}

// joined notes that a subscription has begun.
func (ts *topics) joined(s *Subscription) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.joining, s)
}

// subscribers returns how many subscriptions are open.
func (ts *topics) subscribers() int {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.count
}

// subscriptions returns every open subscription.
func (ts *topics) subscriptions() []*Subscription {
	var subs []*Subscription
	for _, t := range ts.all() {
		t.mu.Lock()
		subs = append(subs, t.subs...)
		t.mu.Unlock()
	}
	return subs
}

// use is how full the buffers are.
type use struct {
	subscribers, buffered, behind int
	fullest                       float64
}

func (ts *topics) bufferUse() use {
	var u use
	for _, s := range ts.subscriptions() {
		waiting := len(s.messages)
		u.subscribers++
		u.buffered += waiting
		u.fullest = max(u.fullest, float64(waiting)/float64(cap(s.messages)))
		if s.isBehind() {
			u.behind++
		}
	}
	return u
}
