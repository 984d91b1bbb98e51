package notification

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// queueSize is how many messages may wait between the connection and the dispatcher. Beyond it the reader
	// waits, and Redis buffers, so memory stays bounded while the dispatcher recovers.
	queueSize = 4096

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
	hurry  chan struct{} // asks for a heartbeat; never holds more than one

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
	lastBeat   atomic.Int64   // when a heartbeat last came back, or Subscribe was first called, Unix nanoseconds; 0 before
	busySince  atomic.Int64   // since when dispatch has worked on one item; 0 while it waits
	counts     atomic.Bool    // a server has counted us among the listeners to a channel; see beside

	mu       sync.Mutex
	session  *session      // the current connection, nil while there is none; guarded by mu
	epoch    uint64        // number of the last session; only listen touches it
	live     *session      // the session that is confirmed and recovered, nil while there is none; guarded by mu
	changed  chan struct{} // closed and replaced when live changes; guarded by mu
	cause    error         // why the last session ended or could not begin; guarded by mu
	guardErr error         // why the node does not tell when it loses the journal, if it does not; guarded by mu

	refusals refusals

	// What may go wrong many times in a row.
	connecting, refusing, recovering redisx.Repeated

	dispatcher *dispatcher
	replayer   *replayer
}

// goroutines is how many the pump runs between the first Subscribe and Close.
const goroutines = 5

func newPump(n *RedisNotificationSystem) *pump {
	p := &pump{
		system: n, queue: make(chan item, queueSize), poke: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
		dispatched: make(chan struct{}), changed: make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(redisx.Background(context.Background()))
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
	p.lastBeat.Store(time.Now().UnixNano()) // the first heartbeat is due from now on
	p.running.Add(goroutines)
	p.started.Store(true) // now that all are counted
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
	if s := p.current(); s != nil {
		s.end()
	}
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

// current returns the session there is, or nil.
func (p *pump) current() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.session
}

// served returns the session there is if it is confirmed and recovered, or nil.
func (p *pump) served() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live != p.session {
		return nil
	}
	return p.live
}

// beside returns the journal on the server that a session is connected to; once the session has ended, reading fails. The
// server cannot be told from others where nobody is counted, as behind some proxies, nor before the session is live.
func (p *pump) beside(s *session) *journal {
	if s == nil || !s.wasLive.Load() || !p.counts.Load() {
		return p.system.journal
	}
	return p.system.journal.beside(s.beats)
}

// note remembers why there is no session.
func (p *pump) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cause = err
}

// unguardedBy notes why the node of the session will not tell when it loses the journal; nil if it will.
func (p *pump) unguardedBy(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.guardErr = err
}

// unreliable returns what makes the connection that there is miss events without a trace, or nil.
func (p *pump) unreliable() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.guardErr
}

// setLive is called by the dispatcher when the session it works for became live, or with nil when it was lost.
func (p *pump) setLive(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live != s {
		if s != nil {
			s.wasLive.Store(true)
		}
		p.live = s
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

func (p *pump) status() (up bool, changed <-chan struct{}, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live != nil && p.live == p.session, p.changed, p.cause
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
