package notification

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Subscriber is what Subscribe returns; its dynamic type is *Subscription.
type Subscriber interface {
	// Messages returns the channel the messages arrive on. It is closed with the subscriber; what was buffered
	// can still be received then.
	Messages() <-chan *Message
	// Close ends the subscription. It may be called more than once and concurrently.
	Close() error
}

var _ Subscriber = (*Subscription)(nil)

// state is how a subscription gets its messages.
type state uint8

const (
	pending   state = iota // Redis has not confirmed its name yet
	live                   // from the dispatcher
	replaying              // from the journal, until it has caught up
)

// Subscription receives the messages of one channel or glob. All its methods are safe for concurrent use.
type Subscription struct {
	system   *RedisNotificationSystem
	pattern  string
	glob     bool   // the pattern is no exact channel
	only     string // ID of the one workflow or task that is wanted of a channel that others share, else empty
	topic    *topic // nil if the subscription was refused
	index    int    // place in topic.subs, -1 when removed; guarded by topic.mu
	messages chan *Message
	gaps     chan Gap
	ready    <-chan struct{} // closed once Redis has confirmed, or refused; nil if it was never asked
	detach   func() bool     // stops watching the context given to Subscribe; guarded by mu

	abandoned atomic.Bool // the context has ended

	// mu is what makes it impossible to send on a closed channel: sending and closing both happen under it.
	mu       sync.Mutex
	closed   bool
	err      error
	state    state
	resumes  bool       // made by SubscribeFrom: begins in the journal, after last; false once it has caught up
	late     bool       // Subscribe gave up waiting, so the first thing to tell is a gap
	from     position   // the place given to SubscribeFrom, for as long as the journal did not contradict
	last     position   // the last event delivered, read from the journal, or known not to be ours
	lastID   string     // ID of the last event of this journal that was delivered
	had      uint64     // the last event remembered, by its number, that it had got when the history changed
	next     position   // the first event left to the replay, until it was read
	backlog  []*Message // read from the journal, but not in the buffer yet
	brokenAt position   // where the journal did not reach back to, once that was told
	rewinds  int        // how often the journal was replaced
	gap      *Gap       // told with the next message
	held     []heldGap  // told with later ones
	flood    GapReason  // why messages are being dropped since the last delivery, if they are
	untold   uint64     // how many of them Gaps has not told of
	droppedN uint64
	patience patience // for the next part of the journal; only the replayer touches it
}

const gapBuffer = 4

func newSubscription(n *RedisNotificationSystem, pattern string) *Subscription {
	return &Subscription{
		system: n, pattern: pattern, glob: isGlob(pattern), index: -1,
		messages: make(chan *Message, n.set.bufferSize),
		gaps:     make(chan Gap, gapBuffer),
	}
}

// subject is what Redis is asked for.
func (s *Subscription) subject() subject { return subject{name: s.pattern, glob: s.glob} }

// wants reports whether a message of its channel is for the subscription.
func (s *Subscription) wants(m *Message) bool {
	if s.only == "" {
		return true
	}
	var event struct {
		ID string `json:"id"`
	}
	return json.Unmarshal([]byte(m.Payload), &event) == nil && event.ID == s.only
}

// Messages returns the channel the messages arrive on. It is closed with the subscription.
func (s *Subscription) Messages() <-chan *Message { return s.orNone().messages }

// Gaps returns the channel on which gaps are told as soon as they are noticed. Nobody needs to read it: when it is
// full, gaps are merged, and the next message carries the gap too. It is closed with the subscription.
func (s *Subscription) Gaps() <-chan Gap { return s.orNone().gaps }

// whenLive returns a channel that is closed once what is published arrives, or Err says why it never does.
func (s *Subscription) whenLive() <-chan struct{} { return s.orNone().ready }

// Pattern returns the channel or glob that was subscribed to.
func (s *Subscription) Pattern() string { return s.orNone().pattern }

// String names the subscription for fmt, which would otherwise read what is changing.
func (s *Subscription) String() string { return fmt.Sprintf("subscription to %q", s.orNone().pattern) }

// Err returns why the subscription was closed: an *ArgumentError if it was refused at once, a redis.Error that names it
// if Redis refused it, as for lack of permission, the cause of its context, ErrSlowSubscriber, or ErrClosed when the
// system was closed. It returns nil while the subscription is open and after its own Close.
func (s *Subscription) Err() error {
	s = s.orNone()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Dropped returns how many messages were dropped because the subscriber was too slow.
func (s *Subscription) Dropped() uint64 {
	s = s.orNone()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.droppedN
}

// LastEventID returns the ID of the last event put into the buffer, to resume from with SubscribeFrom. Before the first it
// is the ID given to SubscribeFrom, or empty. A subscriber that must not miss what it had buffered when it died stores Message.EventID after
// handling each message instead.
func (s *Subscription) LastEventID() string {
	s = s.orNone()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastID
}

// Close ends the subscription and closes its channels; it never waits for Redis. It returns nil.
func (s *Subscription) Close() error {
	if s.none() {
		return errNoSubscription()
	}
	s.shut(nil)
	return nil
}

// shut closes the subscription, with err as the reason.
func (s *Subscription) shut(err error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed, s.err, s.backlog = true, err, nil
	close(s.messages)
	close(s.gaps)
	s.mu.Unlock()
	if !s.isRefused() { // how long it matters that it was refused depends on the context
		s.unwatch()
	}
	if s.topic != nil && s.system.registry.detach(s) {
		s.system.pump.wake()
	}
}

// watch closes the subscription when ctx ends. It costs no goroutine while ctx lives.
func (s *Subscription) watch(ctx context.Context) {
	detach := context.AfterFunc(ctx, func() {
		s.shut(context.Cause(ctx))
		s.abandoned.Store(true)
		s.system.pump.refusals.forget(s)
	})
	s.mu.Lock()
	closed := s.closed
	s.detach = detach
	s.mu.Unlock()
	if closed && !s.isRefused() {
		detach()
	}
}

// awaitLive waits until the topic is live. If it takes too long the subscription stays registered and becomes live
// by itself, with a gap.
func (s *Subscription) awaitLive(ctx context.Context, ready <-chan struct{}, patience time.Duration) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ready:
		return
	case <-timer.C:
	case <-ctx.Done():
	case <-s.system.stopping:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == pending && !s.closed {
		s.late = true
		s.system.metrics.subscribeErrors.Add(1)
	}
}

// isLate reports whether Subscribe gave up waiting.
func (s *Subscription) isLate() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.late
}

// goLive makes the subscription receive, from the dispatcher or, if it resumes, from the journal first: until a heartbeat
// tells that this was all. The latter is what it reports. The caller holds topic.mu.
func (s *Subscription) goLive(from position) (behind bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.state != pending {
		return false
	}
	if s.resumes {
		s.state = replaying
		return true
	}
	s.state = live
	s.advance(from)
	if s.late {
		s.tell(Gap{Reason: GapLate})
		s.log(GapLate)
	}
	return false
}

// missed tells of a gap behind a place in the journal, unless the subscription was not live yet. It reports whether it
// did.
func (s *Subscription) missed(reason GapReason, behind position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.state == pending:
		return false
	case s.state == replaying:
		s.hold(Gap{Reason: reason}, behind)
	default:
		s.tell(Gap{Reason: reason})
	}
	return true
}

// rewind sets the subscription back to an event that the journal of now has in common with the one before. One that
// has not begun yet stays where its subscriber wants to begin: it is told if that place is gone.
func (s *Subscription) rewind(to position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if to.less(s.next) {
		s.next = position{}
	}
	if s.state != pending {
		s.rewinds++ // also if it has not come that far: what is being read for it may be of the other history
		if to.less(s.last) {
			s.last = to
		}
	}
	for i := range s.held {
		if to.less(s.held[i].behind) {
			s.held[i].behind = to
		}
	}
}

// historyChanged notes how many of the events remembered the subscription has got: all that passed, or, if it is behind,
// those up to its place.
func (s *Subscription) historyChanged(remembered *seen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case live:
		s.had = remembered.count
	case replaying:
		s.had = max(s.had, remembered.until(s.last))
	}
}

// has reports whether the subscription has got an event that is remembered from before the history changed; zero is none. The
// caller holds mu.
func (s *Subscription) has(was uint64) bool { return was != 0 && was <= s.had }

// expired makes the subscription forget its place in a journal that is gone, unless it has gone on to the next one already.
// What a replay has not read is gone too. The last event of its name that passed, and the last that was known at all, are
// given.
func (s *Subscription) expired(passed, end position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.state == pending || end.less(s.last) {
		return
	}
	if s.state == replaying && (s.last.less(passed) || s.resumes) {
		s.hold(Gap{Reason: GapTrimmed}, position{})
		s.log(GapTrimmed)
	}
	for i := range s.held {
		s.held[i].behind = position{}
	}
	s.last, s.next, s.from = position{}, position{}, position{}
	s.rewinds++
}

// tell records a gap, for the next message and for Gaps. The caller holds mu.
func (s *Subscription) tell(g Gap) {
	if s.closed {
		return
	}
	s.system.metrics.gap(g.Reason)
	g.After, g.Time = s.lastID, time.Now()
	s.push(g)
	s.add(g)
}

// log tells of a gap that concerns this subscription alone.
func (s *Subscription) log(reason GapReason) {
	s.system.set.logger.Warn("notification: events may be missing",
		zap.String("reason", string(reason)), zap.String("name", s.pattern))
}

// push hands a gap to the reader of Gaps; if there is none, earlier gaps are merged into it. The caller holds mu
// and is therefore the only sender.
func (s *Subscription) push(g Gap) {
	select {
	case s.gaps <- g:
		return
	default:
	}
	select {
	case earlier := <-s.gaps:
		g = earlier.merge(g)
	default:
	}
	select {
	case s.gaps <- g:
	default:
	}
}
