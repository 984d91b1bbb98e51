package notification

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/compozy/cache/internal/glob"
)

// registry knows every name this process listens to and who listens. Locks are taken in the order registry,
// topic, subscription.
type registry struct {
	mu       sync.RWMutex
	topics   map[subject]*topic // guarded by mu
	patterns []*topic           // the globs among them; guarded by mu
	count    int                // open subscriptions; guarded by mu
	few      atomic.Bool        // count is so low that the reader may deliver by itself

	// With ten thousand names, a change of one must not look at all of them.
	fresh []*topic            // names Redis was not asked for yet; guarded by mu
	idle  map[*topic]struct{} // names without subscriptions; guarded by mu
}

// fewSubscriptions is how many subscriptions an event can reach in less time than it takes to wake a goroutine.
const fewSubscriptions = 64

// subject is what Redis is asked for. The name alone would not tell: the channel of a workflow with the ID "*" is spelled
// like a glob.
type subject struct {
	name string
	glob bool
}

// topic is one name, an exact channel or a glob, with the local subscriptions to it. In Redis it is subscribed to
// once, whatever their number.
type topic struct {
	subject

	// Guarded by registry.mu.
	idleSince time.Time // when the last subscription left

	mu       sync.Mutex
	subs     []*Subscription // guarded by mu, as is all below
	live     bool            // confirmed, and recovered after the last cut
	everLive bool            // was live in some session, so a cut may have cost events
	foreign  bool            // other programs publish to it
	start    position        // end of the journal before Redis was asked for the name
	complete uint64          // the heartbeat that comes after all that was published before it was live
	last     envelope        // the last event fanned out, to know the copies that follow
	passed   position        // the last event of the journal fanned out
	ready    chan struct{}   // closed when the topic becomes live
}

func newRegistry() *registry {
	return &registry{topics: make(map[subject]*topic), idle: make(map[*topic]struct{})}
}

// attach adds a subscription under its name. The second result tells that Redis must be asked for the name.
func (r *registry) attach(s *Subscription) (t *topic, isNew bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t = r.topics[s.subject()]
	if t == nil {
		isNew = true
		t = &topic{subject: s.subject(), ready: make(chan struct{})}
		r.topics[t.subject] = t
		r.fresh = append(r.fresh, t)
		if t.glob {
			r.patterns = append(r.patterns, t)
		}
	}
	delete(r.idle, t)
	r.counted(+1)
	t.mu.Lock()
	defer t.mu.Unlock()
	s.topic, s.index = t, len(t.subs)
	t.subs = append(t.subs, s)
	return t, isNew
}

// counted is called with mu held.
func (r *registry) counted(change int) {
	r.count += change
	r.few.Store(r.count <= fewSubscriptions)
}

// detach removes a subscription and reports whether its name has become idle.
func (r *registry) detach(s *Subscription) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := s.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.index < 0 {
		return false
	}
	// The last one takes the free place: with ten thousand subscribers, nothing may be moved on.
	last := len(t.subs) - 1
	t.subs[s.index] = t.subs[last]
	t.subs[s.index].index = s.index
	t.subs[last] = nil
	t.subs = t.subs[:last]
	s.index = -1
	r.counted(-1)
	if last == 0 {
		t.idleSince = time.Now()
		if r.topics[t.subject] == t { // not dropped meanwhile
			r.idle[t] = struct{}{}
		}
	}
	return last == 0
}

func (t *topic) isLive() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.live
}

// lookup returns the topic of a subject, or nil.
func (r *registry) lookup(asked subject) *topic {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.topics[asked]
}

// matching returns the topics that get what is published to a channel.
func (r *registry) matching(channel string) []*topic {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var topics []*topic
	if t := r.topics[subject{name: channel}]; t != nil {
		topics = append(topics, t)
	}
	for _, t := range r.patterns {
		if glob.Match(t.name, channel) {
			topics = append(topics, t)
		}
	}
	return topics
}

// all returns every topic.
func (r *registry) all() []*topic {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Collect(maps.Values(r.topics))
}

// everything returns every name, for a session that begins with them.
func (r *registry) everything() []*topic {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fresh = nil
	return slices.Collect(maps.Values(r.topics))
}

// added returns the names that came since everything or added was called.
func (r *registry) added() []*topic {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := r.fresh
	r.fresh = nil
	return slices.DeleteFunc(fresh, func(t *topic) bool { return r.topics[t.subject] != t })
}

// expire forgets the names that have been idle for longer than linger and returns them. The second result is how
// long to wait for the next one, 0 when none is idle. While connected, a name that Redis has not confirmed yet stays:
// if it came back meanwhile, the late confirmation would be taken for that of the second request.
func (r *registry) expire(now time.Time, linger time.Duration, connected bool) (names []*topic, next time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !connected {
		r.fresh = nil // the next session begins with everything
	}
	for t := range r.idle {
		left := linger - now.Sub(t.idleSince)
		if left <= 0 && connected && !t.isLive() {
			left = max(linger, time.Second)
		}
		if left > 0 {
			if next == 0 || left < next {
				next = left
			}
			continue
		}
		r.remove(t)
		names = append(names, t)
	}
	return names, next
}

// drop forgets a name at once. A subscription to it after that begins anew.
func (r *registry) drop(t *topic) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.topics[t.subject] == t {
		r.remove(t)
	}
}

// remove is called with mu held.
func (r *registry) remove(t *topic) {
	delete(r.topics, t.subject)
	delete(r.idle, t)
	if t.glob {
		r.patterns = slices.DeleteFunc(r.patterns, func(other *topic) bool { return other == t })
	}
}

// names returns how many names are subscribed to.
func (r *registry) names() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.topics)
}

// subscribers returns how many subscriptions are open.
func (r *registry) subscribers() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.count
}

// subscriptions returns every open subscription.
func (r *registry) subscriptions() []*Subscription {
	var subs []*Subscription
	for _, t := range r.all() {
		t.mu.Lock()
		subs = append(subs, t.subs...)
		t.mu.Unlock()
	}
	return subs
}

// use is how full the buffers are.
type use struct {
	subscribers, buffered, replaying int
	fullest                          float64
}

func (r *registry) bufferUse() use {
	var u use
	for _, s := range r.subscriptions() {
		waiting := len(s.messages)
		u.subscribers++
		u.buffered += waiting
		u.fullest = max(u.fullest, float64(waiting)/float64(cap(s.messages)))
		s.mu.Lock()
		if s.state == replaying {
			u.replaying++
		}
		s.mu.Unlock()
	}
	return u
}
