package notification

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification/internal/feed"
	"github.com/compozy/cache/notification/internal/journal"
)

// dispatcher hands what the feed receives to the subscriptions, and sees to it that nothing is missing between two sessions.
// The feed calls it, one call at a time and in the order of the connection, so nothing of it but what is shared needs a
// lock.
type dispatcher struct {
	tag      string // of our journal
	history  bool
	patience time.Duration // for one question to the journal

	topics   *topics
	catchup  *catchup
	journal  *journal.Journal
	beatSoon func() uint64
	metrics  *metrics
	log      *zap.Logger

	// Shared.
	frontier *frontier
	ring     *ring
	health   *liveness
	barrier  *barrier
	refusals *refusals

	up      bool    // what arrives is delivered
	held    bool    // it is not, since the server is a replica without its master
	touched bool    // what is lost with this session is a gap
	session uint64  // its number, 0 without one
	current current // the event at hand, or the last one

	early      []early // came before that
	earlyBytes int
	lost       map[feed.Name]struct{} // names of those that were too many

	known    knowledge
	highest  journal.Position // an event that is not behind it has passed before
	strayed  bool             // events have come since the last heartbeat that the journal does not have at their places
	bridged  bool             // they are not asked about, as the journal had not changed
	beat     uint64           // the last heartbeat of this session, 0 before
	returned *journal.Status  // what it said; nil if nothing

	recovering redisx.Repeated
	foreign    redisx.Repeated
}

// knowledge is what is known of the journal.
type knowledge struct {
	epoch    string // empty if nothing is known
	identity journal.Identity
	seen     journal.Envelope // the last event that has passed, perhaps with some of its copies only
	passed   journal.Envelope // the last one of which all copies have
	verified journal.Envelope // of these, the last one that a heartbeat has named
}

// current is what a message contains. Copies of one event come one after the other, and are read once.
type current struct {
	payload  string
	envelope journal.Envelope
	ours     bool // it is an event of our journal, or of a system like this one without history
	late     bool // it is ours, but of a server that was not the master any more: see stray
	skip     bool // it is left to the journal, or not delivered
}

// fields returns what the message tells of an event.
func (c *current) fields() *journal.Envelope {
	if !c.ours {
		return nil
	}
	return &c.envelope
}

// Message implements feed.Sink.
func (d *dispatcher) Message(s *feed.Session, n feed.Name, channel, payload string) {
	d.session = s.Number
	if c := &d.current; payload != c.payload || payload == "" {
		d.settle()
		d.open(s, payload)
	}
	switch {
	case d.current.skip:
		return
	case !d.up && !d.held:
		d.keep(early{n, channel, payload})
		return
	}
	if t := d.topics.lookup(n); t != nil {
		d.fanOut(t, newMessage(n, channel, payload, d.current.fields()), &d.current)
	}
}

// open reads a new message, and decides what it is.
func (d *dispatcher) open(s *feed.Session, payload string) {
	c := &d.current
	c.payload = payload
	c.envelope, c.ours = journal.Open(payload, d.tag)
	if c.envelope.Foreign && d.history {
		d.foreign.Log(d.log, zap.WarnLevel, "notification: events of another journal arrive; a channel prefix keeps them apart",
			zap.String("event_id", c.envelope.ID))
		c.envelope, c.ours = journal.Envelope{}, false
	}
	if !d.history {
		c.envelope.Pos = journal.Position{} // in a journal that is not ours
	}
	pos := c.envelope.Pos
	if !pos.IsZero() && d.isSuspect(pos) {
		d.log.Warn("notification: event IDs went backwards, recovering")
		now := *c
		recovered := d.recover(s, true)
		if *c = now; !recovered {
			c.skip = true // what comes next finds out what it was
			return
		}
		d.bridged = !d.follows(pos) // nothing has become of the journal
	}
	switch {
	case pos.IsZero():
	case !d.up && d.highest.Less(pos):
		c.skip = true // the journal has it, be it another one by now
		return
	case !d.follows(pos):
		d.stray(c)
	default:
		d.highest, d.known.seen = pos, c.envelope
		d.ring.add(&c.envelope)
		d.frontier.advance(pos)
	}
	if c.ours && !c.skip {
		d.metrics.arrived(time.Since(c.envelope.Time))
	}
}

// early is a message that arrived before the session was up.
type early struct {
	name             feed.Name
	channel, payload string
}

// maxEarly and maxEarlyBytes bound what is kept of these.
const (
	maxEarly      = 4096
	maxEarlyBytes = 4 << 20
)

// keep keeps a message until the session is up: it may not come to that, and the gap of what was missed before comes first.
func (d *dispatcher) keep(e early) {
	d.early = append(d.early, e)
	if d.earlyBytes += len(e.payload); len(d.early) > maxEarly || d.earlyBytes > maxEarlyBytes {
		if d.lost == nil {
			d.lost = make(map[feed.Name]struct{})
		}
		d.lost[d.early[0].name] = struct{}{}
		d.earlyBytes -= len(d.early[0].payload)
		d.early = d.early[1:]
	}
}

// lose marks names as ones that other programs publish to, since something was lost that they have published.
func (d *dispatcher) lose(n feed.Name) {
	if t := d.topics.lookup(n); t != nil {
		d.touched = true
		t.mu.Lock()
		t.foreign = true
		t.mu.Unlock()
	}
}

// follows reports whether an event may come behind all others: in one journal, offsets grow as IDs do.
func (d *dispatcher) follows(pos journal.Position) bool {
	return d.highest.Less(pos) && d.highest.Offset < pos.Offset
}

// isSuspect reports whether an event that does not follow the others may have been appended later nevertheless: then the
// journal began again, perhaps after the clock had been set back or within the same millisecond. The journal tells, and not the
// publishers' clocks; where it has not changed, it is not asked again before a heartbeat comes without such an event.
func (d *dispatcher) isSuspect(pos journal.Position) bool {
	return d.up && !d.bridged && !d.follows(pos)
}

// stray decides what an event is that the journal does not have at its place. Usually somebody passes on events of another
// Redis: a foreign message. But in a cluster it may be of the former master. One that was frozen while another took its place
// first executes what was sent to it, and the cluster carries here what that publishes. The publisher had no reply, and has
// most likely published the event again. So it is delivered as a repetition without an ID, which would be no place in the journal.
func (d *dispatcher) stray(c *current) {
	d.strayed = true
	if !d.known.identity.HasPredecessor() {
		c.envelope, c.ours = journal.Envelope{}, false
		return
	}
	c.late, c.skip = true, !d.up // while there is no session, it would not have come at all
	c.envelope.ID, c.envelope.Pos, c.envelope.Redelivered = "", journal.Position{}, true
}

// timeOf returns when an event was published, by its publisher's clock.
func timeOf(e *journal.Envelope) time.Time {
	if !e.Time.IsZero() {
		return e.Time
	}
	at, _ := time.Parse(time.RFC3339Nano, e.Stamp)
	return at
}

// settle notes that no more copies of the event at hand come.
func (d *dispatcher) settle() {
	if pos := d.current.envelope.Pos; !d.current.skip && d.known.passed.Pos.Less(pos) {
		d.known.passed = d.current.envelope
	}
	d.current = current{}
}

// fanOut offers a message to every subscription of a topic, unless it is a copy of the event before.
func (d *dispatcher) fanOut(t *topic, m *Message, c *current) {
	t.mu.Lock()
	is, pos := copied{c.envelope.ID, c.envelope.Stamp}, c.envelope.Pos
	if is != (copied{}) && is == t.last {
		t.mu.Unlock()
		return
	}
	t.last = is
	switch {
	case pos.IsZero():
		t.foreign = t.foreign || !c.late
	case t.passed.Less(pos):
		t.passed = pos
		t.recent.add(m, pos)
	}
	var behind, slow []*Subscription
	for _, s := range t.subs {
		switch s.offer(m, pos) {
		case catchUp:
			behind = append(behind, s)
		case disconnect:
			slow = append(slow, s)
		}
	}
	t.mu.Unlock()
	d.catchup.add(false, behind...)
	// Closing takes the topic's lock, so it has to wait until here.
	for _, s := range slow {
		s.shut(ErrSlowSubscriber)
	}
}

// Confirmed implements feed.Sink.
func (d *dispatcher) Confirmed(s *feed.Session, n feed.Name) {
	d.session = s.Number
	d.refusals.granted(n)
	t := d.topics.lookup(n)
	if t == nil {
		return
	}
	t.mu.Lock()
	t.confirmed = s.Number
	subs := slices.Clone(t.subs)
	t.mu.Unlock()
	d.join(subs, false)
}

// join makes subscriptions live whose names are confirmed, and for which a heartbeat has come back: what arrives now was
// published after they were asked for. One that resumes reads the journal, up to what a heartbeat knows that comes after the
// confirmation.
func (d *dispatcher) join(subs []*Subscription, afterBeat bool) {
	if !d.up || d.beat == 0 {
		return
	}
	var resumed []*Subscription
	again := false
	for _, s := range subs {
		s.topic.mu.Lock()
		ready := s.topic.confirmed == d.session && s.beat <= d.beat
		s.topic.mu.Unlock()
		switch {
		case !ready:
			continue
		case !s.resumes:
			s.begin(d.here())
		case !afterBeat:
			again = true
			continue
		case s.resume(d.returned, d.frontier):
			resumed = append(resumed, s)
		}
		d.topics.joined(s)
	}
	d.catchup.add(false, resumed...)
	if again {
		d.beatSoon()
	}
}

// here returns where a subscription begins that joins now: behind what the last heartbeat knew.
func (d *dispatcher) here() journal.Position {
	if d.returned == nil {
		return d.known.passed.Pos
	}
	return endPosition(d.returned)
}

// Refused implements feed.Sink.
func (d *dispatcher) Refused(_ *feed.Session, n feed.Name, err error) {
	for _, s := range d.topics.drop(n) {
		s.refused(refusedError{err})
	}
}

// Beat implements feed.Sink. A heartbeat comes after every event published before it, so all events up to the last one it
// names have passed: in quiet times, and on channels nobody here listens to, this moves the cursor.
func (d *dispatcher) Beat(s *feed.Session, payload string) {
	d.settle()
	d.session = s.Number
	d.bridged, d.strayed = d.bridged && d.strayed, false
	digits, _, _ := strings.Cut(payload, "\n")
	d.beat, _ = strconv.ParseUint(digits, 10, 64)
	d.returned = nil
	oldest := int64(0)
	if now, ok := journal.ParseStatus(payload); ok && d.history {
		d.returned, oldest = &now, int64(now.First)
	}
	d.metrics.oldest.Store(oldest)
	switch {
	case !d.history:
	case d.returned == nil:
		d.frontier.becomeBlind()
	case d.up || d.held:
		d.compare(s, d.returned)
	}
	d.join(d.topics.waiting(), true)
	if d.up {
		d.barrier.reach(d.beat)
	}
}

// Down implements feed.Sink.
func (d *dispatcher) Down(_ *feed.Session, err error) {
	d.current = current{} // of the event at hand, copies may be missing
	d.frontier.pause()
	d.health.set(cut)
	closing := errors.Is(err, feed.ErrClosed)
	if d.beat > 0 { // or nobody knows what server it was
		for n := range d.lost {
			d.lose(n)
		}
		for _, e := range d.early {
			d.lose(e.name)
		}
	}
	d.early, d.earlyBytes, d.lost = nil, 0, nil
	if d.touched && !closing {
		if !d.history {
			d.missed(GapReconnected, spot{})
		} else {
			d.foreignMissed()
		}
	}
	d.up, d.held, d.touched, d.bridged, d.strayed, d.session = false, false, false, false, false, 0
	d.beat, d.returned = 0, nil
	d.highest = d.known.passed.Pos
}

// missed tells every subscription that has begun that events may be missing.
func (d *dispatcher) missed(reason GapReason, at spot) {
	told := 0
	for _, s := range d.topics.subscriptions() {
		if s.missed(reason, at) {
			told++
		}
	}
	d.logGaps(reason, told)
}

// foreignMissed tells the subscriptions that other programs publish to that their messages are in no journal.
func (d *dispatcher) foreignMissed() {
	told := 0
	for _, t := range d.topics.all() {
		t.mu.Lock()
		for _, s := range t.subs {
			if t.foreign && s.missed(GapForeign, spot{behind: d.known.passed.Pos}) {
				told++
			}
		}
		t.mu.Unlock()
	}
	d.logGaps(GapForeign, told)
}

func (d *dispatcher) logGaps(reason GapReason, subscriptions int) {
	if subscriptions > 0 {
		d.log.Warn("notification: events may be missing",
			zap.String("reason", string(reason)), zap.Int("subscriptions", subscriptions))
	}
}

// within returns a context for one question to the journal.
func (d *dispatcher) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(redisx.Background(context.Background()), d.patience)
}
