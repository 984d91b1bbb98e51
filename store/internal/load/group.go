package load

import (
	"sync"
	"time"
)

// Group has the calls that are under way, one for each key. The zero value is ready. It is safe for concurrent use.
type Group[T any] struct {
	mu    sync.Mutex // guards calls, and the state of all calls
	calls map[string]*Call[T]
}

// Call is work on a key that callers share.
type Call[T any] struct {
	group *Group[T]
	key   string
	done  chan struct{}
	// What follows is guarded by the group's mutex.
	hasten   func() // ends the time in the queue; nil unless the loader waits until it may run
	urgent   bool   // a member must not wait for that
	members  int
	deserted chan struct{} // closed when the call is queued and nobody waits for it
	fallback T
	offered  time.Time  // after which fallback was true; zero if there is none
	outcome  Outcome[T] // once done is closed
}

// Outcome is how a call ended.
type Outcome[T any] struct {
	Value T
	Err   error
	// AsOf is a time after which Value was true, or there was none. Who joined later has to join another call: somebody may
	// have replaced it in between, and this caller know of that. The zero time is for what is good for all.
	AsOf time.Time
	// Passed says that an earlier call has failed so, and that there was nothing better since. Who joined later loads.
	Passed bool
	// Alone says that Value was loaded without Redis, so that AsOf is when the load began. Who joined later may take it after
	// all if Redis still does not answer.
	Alone bool
	// Abandoned says that the first caller gave up before it could hand its work to the background. The others have to join
	// another call.
	Abandoned bool
}

// Member is one caller's part in a call.
type Member[T any] struct {
	*Call[T]

	// First says that the caller started the call and has to finish it, whatever happens.
	First bool
	since time.Time
}

// Join returns the part in the call for a key of a caller that has come at a time, before it joined any other. It starts a
// call if there is none. Leave must follow.
func (g *Group[T]) Join(key string, since time.Time) Member[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := Member[T]{Call: g.calls[key], since: since}
	if m.Call == nil {
		m.Call, m.First = g.start(key), true
	}
	m.members++
	return m
}

// Leave says that the caller does not wait any more. Others who come join another call if this one would be deserted.
func (m Member[T]) Leave() {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	m.members--
	m.desert()
}

// desert ends a call that only waits for its turn, if nobody waits for it. The caller holds the group's mutex.
func (c *Call[T]) desert() {
	if c.members > 0 || c.hasten == nil {
		return
	}
	select {
	case <-c.deserted:
	default:
		close(c.deserted)
		c.forget()
	}
}

// Deserted is closed when the call is queued and nobody waits for it.
func (c *Call[T]) Deserted() <-chan struct{} { return c.deserted }

// TryStart starts a call for a key. It reports false if there is one already.
func (g *Group[T]) TryStart(key string) (*Call[T], bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calls[key] != nil {
		return nil, false
	}
	return g.start(key), true
}

// start makes a call. The caller holds mu.
func (g *Group[T]) start(key string) *Call[T] {
	if g.calls == nil {
		g.calls = make(map[string]*Call[T])
	}
	c := &Call[T]{group: g, key: key, done: make(chan struct{}), deserted: make(chan struct{})}
	g.calls[key] = c
	return c
}

// Members returns how many share the call for a key.
func (g *Group[T]) Members(key string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.calls[key]; c != nil {
		return c.members
	}
	return 0
}

// Forget makes those who come from now on start a call of their own: what is under way for this key may not know what its
// caller has just written. Those who wait already are not affected.
func (g *Group[T]) Forget(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.calls, key)
}

// ForgetAll is Forget for all keys.
func (g *Group[T]) ForgetAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.calls)
}

// Queue says that the loader waits until it may run, or for nil that it does not. hasten is called if a member must not wait for
// that, now or later. It must be quick, and may be called several times.
func (c *Call[T]) Queue(hasten func()) {
	c.group.mu.Lock()
	defer c.group.mu.Unlock()
	c.hasten = hasten
	if c.urgent && hasten != nil {
		hasten()
	}
	c.desert()
}

// Queued reports whether the loader waits until it may run.
func (c *Call[T]) Queued() bool {
	c.group.mu.Lock()
	defer c.group.mu.Unlock()
	return c.hasten != nil
}

// Hasten says that this member must not wait until the loader may run: others wait for it to end.
func (m Member[T]) Hasten() {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	m.urgent = true
	if m.hasten != nil {
		m.hasten()
	}
}

// Shared reports whether others wait for the call than the first caller.
func (c *Call[T]) Shared() bool {
	c.group.mu.Lock()
	defer c.group.mu.Unlock()
	return c.members > 1
}

// forget removes the call from the group, unless it was forgotten before. The caller holds the group's mutex.
func (c *Call[T]) forget() {
	if c.group.calls[c.key] == c {
		delete(c.group.calls, c.key)
	}
}

// Offer sets what those may take who cannot wait for the outcome. It was true after asOf; the latest counts.
func (c *Call[T]) Offer(fallback T, asOf time.Time) {
	c.group.mu.Lock()
	defer c.group.mu.Unlock()
	if asOf.After(c.offered) {
		c.fallback, c.offered = fallback, asOf
	}
}

// Fallback returns what Offer has set, if it was called. It is late if this member has come after the time as of which that was
// true: somebody may have deleted it in between, so the member must not take it.
func (m Member[T]) Fallback() (fallback T, late, ok bool) {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	return m.fallback, m.since.After(m.offered), !m.offered.IsZero()
}

// Finish ends the call and wakes all who wait. Only the first call of Finish counts.
func (c *Call[T]) Finish(outcome Outcome[T]) {
	c.group.mu.Lock()
	defer c.group.mu.Unlock()
	select {
	case <-c.done:
		return
	default:
	}
	c.outcome = outcome
	c.forget()
	close(c.done)
}

// Done is closed when the call has ended.
func (c *Call[T]) Done() <-chan struct{} { return c.done }

// Outcome returns how the call ended, once Done is closed.
func (c *Call[T]) Outcome() Outcome[T] { return c.outcome }

// Repeats reports whether this member has to join another call, once Done is closed. At the second time at the latest it has
// not, as that call begins later than it has come.
func (m Member[T]) Repeats() bool {
	late := !m.outcome.AsOf.IsZero() && m.since.After(m.outcome.AsOf)
	return late || m.outcome.Abandoned && !m.First
}
