package notification

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
)

const (
	minReconnect = 10 * time.Millisecond
	maxReconnect = time.Second
)

// session is the time between one connect and the cut that ends it.
type session struct {
	epoch   uint64
	pubsub  *redis.PubSub
	beats   string           // channel of its heartbeats, which no other session listens to
	topics  []*topic         // names it began with
	awaited map[subject]bool // those not yet confirmed; only the reader touches it
	ctx     context.Context  // ends with the session
	cancel  context.CancelFunc
	dog     *time.Timer // closes the connection unless heartbeats keep it from doing so
	due     time.Time   // when it will; only listen touches it
	contact time.Time   // when the last heartbeat came back; read once the session is over
	wasLive atomic.Bool // it was confirmed and recovered once
	judged  bool        // what became of the journal while the connection was cut is known; only the dispatcher touches it
	warned  bool        // that verdict told of events that may be missing; only the dispatcher touches it
	keeps   bool        // a name could not be unsubscribed from, which was logged; only the reader touches it
	blind   bool        // the journal cannot be read, which was logged; only beat touches it

	asking sync.Mutex // held while commands are sent, so that asked is in their order
	asked  []question // what Redis has not answered yet: first for beats, in a cluster twice; guarded by asking
}

// question is a command to listen to a name, or to do so no longer.
type question struct {
	subject
	drop bool
}

// listen keeps a session open until the pump is stopped.
func (p *pump) listen() {
	for failures := 0; p.ctx.Err() == nil; {
		began := time.Now()
		s, err := p.connect()
		if err == nil {
			p.connected(s, failures)
			err = p.read(s)
			p.disconnected(s, err)
		} else {
			p.note(err)
		}
		if p.ctx.Err() != nil {
			return
		}
		if s != nil && time.Since(began) > 2*p.system.set.longestPause {
			failures = 0 // it was up for a while, so this is no series
		}
		failures++
		lookAround(p.ctx, p.system.client)
		what := "notification: connection lost, reconnecting"
		if errors.Is(err, redisx.ErrNotStarted) {
			what = "notification: a subscription waits for the client to start"
		}
		p.connecting.Log(p.system.set.logger, zap.WarnLevel, what, zap.Error(err), zap.Int("failures", failures))
		_ = redisx.Sleep(p.ctx, redisx.Backoff(failures, minReconnect, p.system.set.longestPause))
	}
}

// connected logs the first session, and those that end an outage that was logged.
func (p *pump) connected(s *session, failures int) {
	fields := []zap.Field{zap.Uint64("session", s.epoch), zap.Int("failures", failures)}
	if s.epoch == 1 && failures == 0 {
		p.system.set.logger.Info("notification: connected", fields...)
		return
	}
	p.connecting.Over(p.system.set.logger, "notification: connected", fields...)
}

// dead is a cancelled context. Given to PubSub it keeps go-redis from reconnecting behind our back: reading and
// writing do not look at it, dialing does.
func dead() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// connect opens a connection and asks for every name.
func (p *pump) connect() (*session, error) {
	client, err := p.home(p.ctx)
	if err != nil {
		return nil, err
	}
	ps := client.Subscribe(p.ctx)
	// The channel of our heartbeats comes first. It has the hash tag of the journal, in case a client we do not
	// know chooses the node by it.
	p.epoch++
	beats := p.system.keys.heartbeat + p.system.publisher.Own() + ":" + strconv.FormatUint(p.epoch, 10)
	if err := ps.Subscribe(p.ctx, beats); err != nil {
		_ = ps.Close()
		return nil, err
	}
	s := p.begin(ps, beats)
	err = p.guard(s)
	if err == nil {
		err = s.ask(s.topics)
	}
	if err != nil {
		p.disconnected(s, err)
		return nil, err
	}
	return s, nil
}

// begin makes the session that uses a new connection.
func (p *pump) begin(ps *redis.PubSub, beats string) *session {
	s := &session{
		epoch: p.epoch, pubsub: ps, beats: beats, awaited: map[subject]bool{{name: beats}: true},
		asked: []question{{subject: subject{name: beats}}},
	}
	s.ctx, s.cancel = context.WithCancel(p.ctx)
	s.dog = time.AfterFunc(p.system.set.deadline(), func() {
		p.system.set.logger.Warn("notification: no heartbeat came back, reconnecting")
		s.end()
	})
	s.watch(p.system.set.deadline())
	// Only now may control see the session: every name that was live before is among the first ones, which are
	// recovered together. What control adds later is new.
	p.mu.Lock()
	s.topics = p.system.registry.everything()
	for _, t := range s.topics {
		s.awaited[t.subject] = true
	}
	p.session = s
	p.mu.Unlock()
	p.wake()
	if p.ctx.Err() != nil {
		// stopListening may have looked just before the session was there to be seen.
		_ = ps.Close()
	}
	return s
}

// watch makes the session end after a time, unless it is called again.
func (s *session) watch(left time.Duration) {
	s.due = time.Now().Add(left)
	s.dog.Reset(left)
}

// end makes the reader notice that the session is over.
func (s *session) end() {
	s.cancel() // a recovery under way would look in vain for the server of a closed connection
	_ = s.pubsub.Close()
}

// ask subscribes to the names in Redis, with one command each: one that the user has no permission for must not take
// others with it, and the order of the answers tells which it was.
func (s *session) ask(topics []*topic) error {
	ctx := dead()
	s.asking.Lock()
	defer s.asking.Unlock()
	for _, t := range topics {
		subscribe := s.pubsub.Subscribe
		if t.glob {
			subscribe = s.pubsub.PSubscribe
		}
		s.asked = append(s.asked, question{subject: t.subject})
		if err := subscribe(ctx, t.name); err != nil {
			return err
		}
	}
	return nil
}

// nextAnswered returns the question that the next answer of Redis is about.
func (s *session) nextAnswered() (q question, ok bool) {
	s.asking.Lock()
	defer s.asking.Unlock()
	if len(s.asked) == 0 {
		return question{}, false
	}
	q = s.asked[0]
	s.asked = s.asked[1:]
	return q, true
}

// forget unsubscribes from the names in Redis.
func (s *session) forget(topics []*topic) error {
	ctx := dead()
	s.asking.Lock()
	defer s.asking.Unlock()
	for _, t := range topics {
		unsubscribe := s.pubsub.Unsubscribe
		if t.glob {
			unsubscribe = s.pubsub.PUnsubscribe
		}
		s.asked = append(s.asked, question{subject: t.subject, drop: true})
		if err := unsubscribe(ctx, t.name); err != nil {
			return err
		}
	}
	return nil
}

// read passes on what the connection delivers until it breaks.
func (p *pump) read(s *session) error {
	ctx := dead()
	for {
		received, err := s.pubsub.Receive(ctx)
		if err != nil {
			if err := p.refused(s, err); err != nil {
				return err
			}
			continue
		}
		switch m := received.(type) {
		case *redis.Message:
			p.received(s, m)
		case *redis.Subscription:
			if m.Kind == "sunsubscribe" {
				return errMoved
			}
			p.confirmed(s, m)
		}
	}
}

// received passes a message on. Heartbeats are noted here already: a dispatcher busy with recovery must not make
// the connection look dead.
func (p *pump) received(s *session, m *redis.Message) {
	asked := subject{name: m.Channel}
	if m.Pattern != "" {
		asked = subject{name: m.Pattern, glob: true}
	}
	it := item{kind: itemMessage, session: s, subject: asked, channel: m.Channel, payload: m.Payload}
	switch {
	case m.Channel == s.beats && m.Pattern == "":
		p.contact(s)
		it.kind = itemBeat
	case p.system.keys.internal(m.Channel, m.Payload):
		return // a glob such as "*" matches these too
	}
	p.pass(it)
}

// pass hands a message to the dispatcher. If that has nothing to do and the message is for few, the reader does its
// work at once: waking another goroutine would cost more. Only the reader fills the queue, so while pending is zero
// the dispatcher cannot come in between.
func (p *pump) pass(it item) {
	if p.pending.Load() == 0 && p.system.registry.few.Load() {
		p.handle(it)
		return
	}
	p.enqueue(it)
}

// enqueue hands an item to the dispatcher. While that has no room, nobody sees the heartbeats behind the item.
func (p *pump) enqueue(it item) {
	p.pending.Add(1)
	select {
	case p.queue <- it:
		return
	default:
	}
	if it.kind == itemDown {
		p.queue <- it
		return
	}
	s := it.session
	left := time.Until(s.due)
	s.dog.Stop()
	p.queue <- it
	s.watch(left)
}

// contact notes that the connection works in both directions.
func (p *pump) contact(s *session) {
	s.contact = wallClock()
	s.watch(p.system.set.deadline())
	p.lastBeat.Store(s.contact.UnixNano())
}

// confirmed handles what Redis says about a name.
func (p *pump) confirmed(s *session, m *redis.Subscription) {
	s.nextAnswered()
	if m.Kind == "ssubscribe" {
		p.unguardedBy(nil)
	}
	if m.Kind != "subscribe" && m.Kind != "psubscribe" {
		return
	}
	asked := subject{name: m.Channel, glob: m.Kind == "psubscribe"}
	p.refusals.granted(asked)
	if !s.awaited[asked] {
		p.enqueue(item{kind: itemConfirmed, session: s, subject: asked})
		return
	}
	p.settled(s, asked)
}

// refused handles an error that Redis answered, such as a missing permission. It returns why the session cannot go on:
// the connection broke, the error will pass or is about no name, or there are no heartbeats.
func (p *pump) refused(s *session, err error) error {
	if !permanent(err) {
		return err
	}
	q, ok := s.nextAnswered()
	if !ok {
		return err
	}
	name := q.name
	if q.drop {
		level := zap.WarnLevel
		if s.keeps {
			level = zap.DebugLevel // there may be as many as there are workflows
		}
		s.keeps = true
		p.system.set.logger.Log(level, "notification: a name that nobody listens to stays subscribed",
			zap.String("name", name), zap.Error(err))
		return nil
	}
	if name == s.beats && !s.awaited[q.subject] {
		p.unguarded(err) // the second answer; the first is about the subscription itself
		return nil
	}
	refused := []zap.Field{zap.String("name", name), zap.Error(err)}
	err = fmt.Errorf("notification: subscription to %q refused: %w", name, err)
	const message = "notification: subscription refused"
	if name == s.beats { // which ends the session: the next one asks again
		p.refusing.Log(p.system.set.logger, zap.ErrorLevel, message, refused...)
		return err
	}
	p.system.set.logger.Error(message, refused...)
	p.enqueue(item{kind: itemRefused, session: s, subject: q.subject, payload: err.Error()})
	p.settled(s, q.subject)
	return nil
}

// settled notes that one of the names a session began with was answered for. The session is up once all were.
func (p *pump) settled(s *session, asked subject) {
	if !s.awaited[asked] {
		return
	}
	delete(s.awaited, asked)
	if len(s.awaited) == 0 {
		p.contact(s)
		p.enqueue(item{kind: itemUp, session: s})
	}
}

// disconnected tells the dispatcher that a session is over.
func (p *pump) disconnected(s *session, err error) {
	s.cancel()
	s.dog.Stop()
	_ = s.pubsub.Close()
	p.mu.Lock()
	if p.session == s {
		p.session = nil
	}
	p.mu.Unlock()
	if p.ctx.Err() == nil {
		p.system.metrics.reconnects.Add(1)
	}
	p.note(err)
	p.enqueue(item{kind: itemDown, session: s})
}
