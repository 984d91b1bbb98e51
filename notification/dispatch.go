package notification

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// item is something the reader hands to the dispatcher. Their order is the order on the connection.
type item struct {
	kind             itemKind
	session          *session
	subject          subject // what it is about
	channel, payload string
}

type itemKind uint8

const (
	itemMessage   itemKind = iota // a message for a name
	itemBeat                      // one of our own heartbeats came back
	itemConfirmed                 // a name added to a running session was confirmed
	itemRefused                   // Redis refused a name; the payload says why
	itemUp                        // all names a session began with were confirmed
	itemDown                      // the session is over
)

// dispatcher is the state of handing messages to subscriptions, which one goroutine at a time does.
type dispatcher struct {
	system *RedisNotificationSystem
	abort  atomic.Bool // drop what is queued, Shutdown has run out of time
	thrown atomic.Bool // messages were dropped for that

	// These belong to whoever handles an item.
	up      bool      // the session is recovered; what arrives now is delivered
	early   []subject // confirmed before the session was up
	portion portion   // how many events are read from the journal at once
	base    baseline  // what the journal was like when last in touch with it
	seen    *seen     // the last events that passed
	highest place     // the last event that arrived in this session, or that is known to be older than it
	trusted uint64    // heartbeats up to this number are too old to tell anything
	suspect suspects  // where events came that cannot follow those before them; looked into by the next recovery
	bridged bool      // that was an event of another journal: ours had not changed
	current current   // the message at hand, or the last one

	mu     sync.Mutex
	cursor envelope // the last event seen, or the end of the journal if that is later; guarded by mu
	origin string   // that of base, if it is known that heartbeats tell of a change; guarded by mu
	beaten uint64   // the last heartbeat that moved the cursor, or that was sent before a recovery did; guarded by mu
}

// current is what a message contains. Copies of one event come one after the other, and are read once.
type current struct {
	payload  string
	envelope envelope
	ours     bool   // it was written by a NotificationSystem
	was      uint64 // the number under which it is remembered, if it passed before a failover already
}

func newDispatcher(n *RedisNotificationSystem) *dispatcher {
	return &dispatcher{system: n, seen: newSeen(), portion: newPortion(recoveryBatch)}
}

// stop makes the dispatcher throw away what is queued.
func (d *dispatcher) stop() { d.abort.Store(true) }

// join makes a new subscription live if its name is, and returns a channel that is closed when that is so.
func (d *dispatcher) join(t *topic, s *Subscription) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live && s.goLive(d.start(t)) {
		d.system.pump.resumed(s)
	}
	return t.ready
}

// start is where a subscription to a live topic begins: before it, nothing may be recovered for it. The caller
// holds topic.mu.
func (d *dispatcher) start(t *topic) position {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t.start.less(d.cursor.pos) {
		return d.cursor.pos
	}
	return t.start
}

// advance moves the cursor to an event, or to the end of the journal, that the connection has passed.
func (d *dispatcher) advance(e envelope) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cursor = e
}

// pass is advance for an event that the connection brings. It reports whether that moved the cursor: right after a
// recovery the journal was read further than the connection has come.
func (d *dispatcher) pass(e envelope) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.cursor.pos.less(e.pos) {
		return false
	}
	d.cursor = e
	return true
}

// identify notes whose journal it is.
func (d *dispatcher) identify(i identity) {
	d.base.identity = i
	d.identifies(i.origin)
}

// identifies sets whose events a replay may deliver; empty is anybody's.
func (d *dispatcher) identifies(origin string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.origin = origin
}

// knows reports whether a data set is the one whose events the connection brings, as far as is known.
func (d *dispatcher) knows(origin string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.origin == "" || d.origin == origin
}

// passed returns the events of the journal that a replay may deliver: those that are not behind the cursor, if heartbeats
// move it. Others are still to come on the connection. Were the server lost now, nobody would remember them when their
// publisher repeats them.
func (d *dispatcher) passed(entries []entry) (those []entry, all bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(entries)
	for d.origin != "" && n > 0 && d.cursor.pos.less(entries[n-1].pos) {
		n--
	}
	return entries[:n], n == len(entries)
}

// beat notes that a heartbeat has moved the cursor.
func (d *dispatcher) beat(number uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.beaten = number
}

// heard reports whether a heartbeat has moved the cursor, or none does.
func (d *dispatcher) heard(number uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.origin == "" || number <= d.beaten
}

// at returns the cursor.
func (d *dispatcher) at() envelope {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cursor
}

// dispatch handles items until the queue is closed.
func (p *pump) dispatch() {
	d := p.dispatcher
	for it := range p.queue {
		if !d.abort.Load() {
			p.handle(it)
		} else if it.kind == itemMessage {
			d.thrown.Store(true)
		}
		p.pending.Add(-1)
	}
}

// handle does what an item asks for. It runs in one goroutine at a time.
func (p *pump) handle(it item) {
	now := time.Now()
	p.busySince.Store(now.UnixNano())
	if it.kind != itemMessage {
		p.dispatcher.current = current{} // nothing comes between copies, so what follows is none
	}
	switch it.kind {
	case itemMessage:
		p.message(it, now)
	case itemBeat:
		p.beatReturned(it)
	case itemConfirmed:
		p.added(it.subject)
	case itemRefused:
		p.refuse(it)
	case itemUp:
		p.recover(it.session)
	case itemDown:
		p.down(it.session)
	}
	p.busySince.Store(0)
}

// message delivers one message of the connection.
func (p *pump) message(it item, now time.Time) {
	d := p.dispatcher
	if !d.up {
		p.skipped(it)
		return
	}
	c := &d.current
	if it.payload != c.payload {
		*c = current{payload: it.payload}
		c.envelope, c.ours = p.open(it.payload)
		if !p.passes(it, now) {
			return
		}
	}
	t := p.system.registry.lookup(it.subject)
	if t == nil {
		return // nobody listens any more
	}
	m := newMessage(it.channel, it.payload, c.envelope, c.ours)
	if t.glob {
		m.Pattern = t.name
	}
	p.fanOut(t, m, c.envelope, c.was)
}

// open reads what the system wrote into a payload.
func (p *pump) open(payload string) (e envelope, ours bool) {
	e, ours = openEnvelope(payload, p.system.keys.tag)
	if p.system.set.history == 0 {
		e.pos = position{} // in a journal that is not ours
	}
	return e, ours
}

// passes notes a new event. It gives false if the event cannot follow the one before it in the same journal: then
// the journal was replaced under a connection that did not notice, or somebody passes on the events of another one.
func (p *pump) passes(it item, now time.Time) bool {
	d := p.dispatcher
	c := &d.current
	here := place{c.envelope.pos, c.envelope.stamp}
	if here.pos.isZero() {
		p.aged(now)
		return true
	}
	if !d.highest.pos.less(here.pos) {
		newest, _ := time.Parse(time.RFC3339Nano, d.highest.stamp)
		if here == d.highest || d.seen.has(here) || c.envelope.time.Before(newest) || d.bridged {
			// Somebody passed on what was delivered already, or is as old: a foreign message, not another history.
			c.envelope, c.ours = envelope{}, false
			return true
		}
		p.system.set.logger.Warn("notification: event IDs went backwards, recovering")
		d.up, d.suspect = false, make(suspects)
		p.skipped(it)
		p.setLive(nil)
		it.session.end()
		return false
	}
	d.highest = here
	value := c.envelope.valueOf(c.payload)
	c.was = d.seen.repeats(c.envelope, value)
	if d.pass(c.envelope) {
		p.aged(now)
		d.seen.add(c.envelope, value)
	}
	return true
}

// aged observes how long the message at hand, which is being handled since now, was under way.
func (p *pump) aged(now time.Time) {
	if c := &p.dispatcher.current; c.ours {
		p.system.metrics.arrived(now.Sub(c.envelope.time))
	}
}

// newMessage makes the message that all subscriptions of one name share.
func newMessage(channel, payload string, e envelope, ours bool) *Message {
	m := &Message{Channel: channel, Payload: payload}
	if ours {
		m.EventID, m.Time, m.TraceParent = e.id, e.time, e.traceParent
	}
	return m
}

// fanOut offers a message to every subscription of a topic, unless it is a copy of the event before. If it passed in
// another history, the number under which it is remembered is given.
func (p *pump) fanOut(t *topic, m *Message, e envelope, was uint64) {
	t.mu.Lock()
	if !t.live || e.id != "" && e.id == t.last.id && e.stamp == t.last.stamp {
		t.mu.Unlock()
		return
	}
	t.last = e
	before := t.passed
	if e.pos.isZero() {
		t.foreign = true
	} else if t.passed.less(e.pos) {
		t.passed = e.pos
	}
	var slow []*Subscription
	for _, s := range t.subs {
		switch s.offer(m, e.pos, before, was) {
		case catchUp:
			p.replayer.add(s)
		case disconnect:
			slow = append(slow, s)
		}
	}
	t.mu.Unlock()
	// Closing takes the topic's lock, so it has to wait until here.
	for _, s := range slow {
		s.shut(ErrSlowSubscriber)
	}
}

// added makes a name live that was added to a running session. Nothing was live under it before, so there is
// nothing to recover.
func (p *pump) added(confirmed subject) {
	d := p.dispatcher
	if !d.up {
		d.early = append(d.early, confirmed)
		return
	}
	if t := p.system.registry.lookup(confirmed); t != nil {
		p.goLive(t, p.beats.Load()+1)
	}
}

// refuse closes the subscriptions to a name that Redis does not let us listen to.
func (p *pump) refuse(it item) {
	t := p.system.registry.lookup(it.subject)
	if t == nil {
		return
	}
	p.system.registry.drop(t)
	t.mu.Lock()
	subs := slices.Clone(t.subs)
	t.mu.Unlock()
	for _, s := range subs {
		if !s.isLate() { // or it was counted already
			p.system.metrics.subscribeErrors.Add(1)
		}
		s.refused(refusal(it.payload))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.live {
		t.live = true // nobody is to wait for it any more
		close(t.ready)
	}
}

// goLive makes a topic deliver and wakes the Subscribe calls that wait for it. The heartbeat given is the first one that
// comes after all that was published before.
func (p *pump) goLive(t *topic, complete uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live {
		return
	}
	t.live, t.everLive, t.complete = true, true, complete
	from := p.dispatcher.start(t)
	for _, s := range t.subs {
		if s.goLive(from) {
			p.resumed(s)
		}
	}
	close(t.ready)
}

// resumed makes a subscription read the journal, and sees to the heartbeat that tells when it has all. The caller holds
// topic.mu.
func (p *pump) resumed(s *Subscription) {
	p.replayer.add(s)
	if !p.dispatcher.heard(s.topic.complete) {
		p.beatSoon()
	}
}

// down stops delivery until the next session is recovered.
func (p *pump) down(s *session) {
	d := p.dispatcher
	d.up, d.early = false, nil
	if s.contact.After(d.base.contact) {
		d.base.contact = s.contact
	}
	p.setLive(nil)
	for _, t := range p.system.registry.all() {
		t.mu.Lock()
		if t.live {
			t.live, t.ready = false, make(chan struct{})
		}
		t.mu.Unlock()
	}
}
