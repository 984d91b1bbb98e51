package notification

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

const (
	// queueSize is how many messages may wait between the connection and the dispatcher. Beyond it the reader
	// waits, and Redis buffers, so memory stays bounded while the dispatcher recovers.
	queueSize = 4096

	minReconnect = 10 * time.Millisecond
	maxReconnect = time.Second

	// stopGrace is how long Shutdown waits for goroutines beyond its context.
	stopGrace = 100 * time.Millisecond
)

// pump owns the one connection that all subscriptions share, and the goroutines around it. Their number is
// constant:
//
//	listen     connects and reads, again and again
//	control    tells Redis which names to add and which to drop
//	beat       sends heartbeats
//	dispatch   recovers after cuts and hands messages to subscriptions
//	replay     feeds the subscriptions that could not keep up
type pump struct {
	system *RedisNotificationSystem
	queue  chan item
	poke   chan struct{} // wakes control; never holds more than one

	startOnce  sync.Once
	started    atomic.Bool
	ctx        context.Context // ends when listening is to stop
	cancel     context.CancelFunc
	listening  sync.WaitGroup // listen, control and beat
	replaying  sync.WaitGroup // replay
	dispatched chan struct{}  // closed when dispatch has drained the queue
	pending    atomic.Int64   // items the dispatcher has not finished
	running    atomic.Int32   // goroutines that have not returned
	beats      atomic.Uint64  // heartbeats sent
	lastBeat   atomic.Int64   // when a heartbeat last came back, Unix nanoseconds; 0 before the first session
	busySince  atomic.Int64   // since when dispatch has worked on one item; 0 while it waits

	mu      sync.Mutex
	session *session      // the current connection, nil while there is none; guarded by mu
	epoch   uint64        // number of the last session; only listen touches it
	up      bool          // the session is confirmed and recovered; guarded by mu
	changed chan struct{} // closed and replaced when up changes; guarded by mu
	cause   error         // why the last session ended or could not begin; guarded by mu

	dispatcher *dispatcher
	replayer   *replayer
}

// session is the time between one connect and the cut that ends it.
type session struct {
	epoch   uint64
	pubsub  *redis.PubSub
	topics  []*topic        // names it began with
	awaited map[string]bool // those not yet confirmed; only the reader touches it
	ctx     context.Context // ends with the session
	cancel  context.CancelFunc
	dog     *time.Timer // closes the connection unless heartbeats keep it from doing so
	contact time.Time   // when the last heartbeat came back; read once the session is over
}

// goroutines is how many the pump runs between the first Subscribe and Close.
const goroutines = 5

func newPump(n *RedisNotificationSystem) *pump {
	p := &pump{
		system: n, queue: make(chan item, queueSize), poke: make(chan struct{}, 1),
		dispatched: make(chan struct{}), changed: make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.dispatcher = newDispatcher(n)
	p.replayer = newReplayer(p)
	return p
}

// add registers a subscription and returns a channel that is closed when its name is live. The first one starts
// the pump.
func (p *pump) add(s *Subscription) <-chan struct{} {
	// The order makes the first connection ask for the first name at once.
	t, isNew := p.system.registry.attach(s)
	p.startOnce.Do(p.start)
	if isNew {
		p.wake()
	}
	return p.dispatcher.join(t, s)
}

func (p *pump) start() {
	p.started.Store(true)
	p.running.Add(goroutines)
	run := func(f func()) {
		defer p.running.Add(-1)
		f()
	}
	p.listening.Go(func() { run(p.listen) })
	p.listening.Go(func() { run(p.control) })
	p.listening.Go(func() { run(p.beat) })
	go run(func() {
		defer close(p.dispatched)
		p.dispatch()
	})
	p.replaying.Go(func() { run(p.replayer.work) })
}

// wake makes control look at the registry.
func (p *pump) wake() {
	select {
	case p.poke <- struct{}{}:
	default:
	}
}

// stopListening closes the connection and waits until everything received before was handed to the subscriptions,
// or ctx ends.
func (p *pump) stopListening(ctx context.Context) {
	p.cancel()
	// Marks the pump as started, so that a Subscribe that comes too late does not start it.
	p.startOnce.Do(func() { close(p.dispatched) })
	p.interrupt(nil)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		p.listening.Wait()
		close(p.queue)
		<-p.dispatched
	}()
	select {
	case <-finished:
	case <-ctx.Done():
		p.dispatcher.stop()
		await(finished)
	}
}

// await gives goroutines a moment to end. One that waits for a server which does not answer, through a client that
// ignores contexts, may need longer; it then ends by itself and must not hold up a shutdown.
func await(finished <-chan struct{}) {
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-finished:
	case <-timer.C:
	}
}

// stopReplaying ends the replays and waits for the goroutine.
func (p *pump) stopReplaying() {
	p.replayer.cancel()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		p.replaying.Wait()
	}()
	await(finished)
}

// interrupt ends the current session, if it is the one given; nil means any.
func (p *pump) interrupt(only *session) {
	p.mu.Lock()
	s := p.session
	p.mu.Unlock()
	if s != nil && (only == nil || only == s) {
		_ = s.pubsub.Close()
	}
}

// listen keeps a session open until the pump is stopped.
func (p *pump) listen() {
	for failures := 0; p.ctx.Err() == nil; {
		s, err := p.connect()
		if err == nil {
			failures = 0
			p.system.set.logger.Debug("notification: connected", zap.Uint64("session", s.epoch))
			err = p.read(s)
			p.disconnected(s, err)
		} else {
			p.note(err)
		}
		if p.ctx.Err() != nil {
			return
		}
		failures++
		lookAround(p.ctx, p.system.client)
		p.system.set.logger.Warn("notification: connection lost, reconnecting", zap.Error(err), zap.Int("failures", failures))
		sleep(p.ctx, backoff(failures, minReconnect, maxReconnect))
	}
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
	if err := ps.Subscribe(p.ctx, p.beatChannel()); err != nil {
		_ = ps.Close()
		return nil, err
	}
	s := p.begin(ps)
	if err := ask(s, s.topics); err != nil {
		p.disconnected(s, err)
		return nil, err
	}
	return s, nil
}

// begin makes the session that uses a new connection.
func (p *pump) begin(ps *redis.PubSub) *session {
	p.epoch++
	s := &session{epoch: p.epoch, pubsub: ps, topics: p.system.registry.wanted(p.epoch), awaited: make(map[string]bool)}
	s.awaited[p.beatChannel()] = true
	for _, t := range s.topics {
		s.awaited[t.name] = true
	}
	s.ctx, s.cancel = context.WithCancel(p.ctx)
	s.dog = time.AfterFunc(deadAfter*p.system.set.heartbeat, func() {
		p.system.set.logger.Warn("notification: no heartbeat came back, reconnecting")
		p.interrupt(s)
	})
	// Only now may control see the session: every name that was live before is among the first ones, which are
	// recovered together. What control adds later is new.
	p.mu.Lock()
	p.session = s
	p.mu.Unlock()
	p.wake()
	if p.ctx.Err() != nil {
		// interrupt may have looked just before the session was there to be seen.
		_ = ps.Close()
	}
	return s
}

// askAtOnce bounds the names in one command, to keep commands from growing without limit.
const askAtOnce = 1000

// ask subscribes to the names in Redis.
func ask(s *session, topics []*topic) error {
	ctx := dead()
	names, globs := split(topics)
	return errors.Join(
		inChunks(names, func(part []string) error { return s.pubsub.Subscribe(ctx, part...) }),
		inChunks(globs, func(part []string) error { return s.pubsub.PSubscribe(ctx, part...) }),
	)
}

// forget unsubscribes from the names in Redis.
func forget(s *session, topics []*topic) error {
	ctx := dead()
	names, globs := split(topics)
	return errors.Join(
		inChunks(names, func(part []string) error { return s.pubsub.Unsubscribe(ctx, part...) }),
		inChunks(globs, func(part []string) error { return s.pubsub.PUnsubscribe(ctx, part...) }),
	)
}

// split separates exact names from globs, which Redis has different commands for.
func split(topics []*topic) (names, globs []string) {
	for _, t := range topics {
		if t.glob {
			globs = append(globs, t.name)
		} else {
			names = append(names, t.name)
		}
	}
	return names, globs
}

func inChunks(names []string, do func([]string) error) error {
	for len(names) > 0 {
		part := names[:min(askAtOnce, len(names))]
		if err := do(part); err != nil {
			return err
		}
		names = names[len(part):]
	}
	return nil
}

// read passes on what the connection delivers until it breaks.
func (p *pump) read(s *session) error {
	ctx := dead()
	for {
		received, err := s.pubsub.Receive(ctx)
		if err != nil {
			return err
		}
		switch m := received.(type) {
		case *redis.Message:
			p.received(s, m)
		case *redis.Subscription:
			p.confirmed(s, m)
		}
	}
}

// received passes a message on. Heartbeats are noted here already: a dispatcher busy with recovery must not make
// the connection look dead.
func (p *pump) received(s *session, m *redis.Message) {
	it := item{kind: itemMessage, session: s, name: m.Channel, channel: m.Channel, payload: m.Payload}
	switch {
	case m.Channel == p.beatChannel() && m.Pattern == "":
		p.contact(s)
		it.kind = itemBeat
	case strings.HasPrefix(m.Channel, p.system.keys.heartbeat):
		return // a glob such as "*" matches heartbeats too, also those of other systems
	case m.Pattern != "":
		it.name = m.Pattern
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

// enqueue hands an item to the dispatcher.
func (p *pump) enqueue(it item) {
	p.pending.Add(1)
	p.queue <- it
}

// contact notes that the connection works in both directions.
func (p *pump) contact(s *session) {
	s.contact = time.Now()
	s.dog.Reset(deadAfter * p.system.set.heartbeat)
	p.lastBeat.Store(s.contact.UnixNano())
}

// confirmed handles what Redis says about a name. A session is up once all the names it began with are confirmed.
func (p *pump) confirmed(s *session, m *redis.Subscription) {
	if m.Kind != "subscribe" && m.Kind != "psubscribe" {
		return
	}
	if !s.awaited[m.Channel] {
		p.enqueue(item{kind: itemConfirmed, session: s, name: m.Channel})
		return
	}
	delete(s.awaited, m.Channel)
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

// note remembers why there is no session.
func (p *pump) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cause = err
}

// setUp is called by the dispatcher when the session it works for became live, or was lost.
func (p *pump) setUp(up bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up != up {
		p.up = up
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

func (p *pump) status() (up bool, changed <-chan struct{}, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up, p.changed, p.cause
}

// alive reports whether the goroutines of a started pump are there and get on with their work.
func (p *pump) alive(now time.Time) error {
	select {
	case <-p.ctx.Done():
		return nil
	default:
	}
	if !p.started.Load() {
		return nil
	}
	if missing := goroutines - p.running.Load(); missing > 0 {
		return errors.New("notification: a goroutine of the pump has ended")
	}
	if since := p.busySince.Load(); since != 0 && now.Sub(time.Unix(0, since)) > stalledAfter {
		return errors.New("notification: the dispatcher is stuck")
	}
	return nil
}
