package notification

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/notification/internal/feed"
	"github.com/compozy/cache/notification/internal/journal"
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
	pending state = iota // it has not begun: Redis has not confirmed its name, or not everything from before has passed
	live                 // from the connection
	behind               // from the journal, until it has caught up
)

// common is what all subscriptions of a system use.
type common struct {
	policy   Policy
	buffer   int
	log      *zap.Logger
	metrics  *metrics
	topics   *topics
	refusals *refusals
	barrier  *barrier
	beatSoon func() uint64
	frontier *frontier // nil without history
}

// Subscription receives the messages of one channel or glob. All its methods are safe for concurrent use.
type Subscription struct {
	*common

	pattern  string
	name     feed.Name
	only     string // ID of the one workflow or task that is wanted of a channel that others share, else empty
	topic    *topic // nil if the subscription was refused
	index    int    // place in topic.subs, -1 when removed; guarded by topic.mu
	reads    bool   // topic.recent is kept for it; guarded by topic.mu
	beat     uint64 // the first heartbeat that makes it live; guarded by topic.mu
	messages chan *Message
	ready    chan struct{} // closed when it begins, or never will

	abandoned atomic.Bool // the context has ended

	// mu is what makes it impossible to send on a closed channel: sending and closing both happen under it.
	mu      sync.Mutex
	closed  bool
	err     error
	detach  func() bool // stops watching the context given to Subscribe
	state   state
	resumes bool             // made by SubscribeFrom: begins in the journal, after at
	late    bool             // Subscribe gave up waiting, so the first thing to tell is a gap
	at      journal.Position // the last event delivered, read from the journal, or known not to be ours
	lastID  string           // ID of the last event of this journal that was delivered
	sent    uint64           // messages ever put into the buffer
	gaps    gaps

	// For a subscription that is behind.
	until   journal.Position // it has to read the journal as far as this at least
	loose   bool             // at is no event, so something else may follow it
	got     uint64           // while loose after a change of the journal: the offset up to which nothing of both is missing
	unsure  bool             // nobody knows how far the journal goes: see verify
	changes []change         // of the journal since it was live
	start   journal.Position // nothing up to here is for it
	waiting bool             // its buffer was full when it was last offered something

	fullSince time.Time // when the catch-up found it so; nobody else touches it
}

func newSubscription(c *common, pattern string) *Subscription {
	return &Subscription{
		common: c, pattern: pattern, name: feed.Name{Text: pattern, Glob: isGlob(pattern)}, index: -1,
		messages: make(chan *Message, c.buffer), ready: make(chan struct{}), gaps: gaps{out: make(chan Gap, gapBuffer)},
	}
}

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

// Gaps returns the channel on which gaps arrive as soon as they are noticed. Nobody needs to read it: when it is
// full, gaps are merged, and the next message carries the gap too. It is closed with the subscription.
func (s *Subscription) Gaps() <-chan Gap { return s.orNone().gaps.out }

// whenLive returns a channel that is closed once what is published arrives, or Err says why it never does.
func (s *Subscription) whenLive() <-chan struct{} { return s.orNone().ready }

// Pattern returns the channel or glob it listens to. For SubscribeWorkflow and SubscribeTask that is the channel of the
// ID, which is no glob whatever it contains.
func (s *Subscription) Pattern() string { return s.orNone().pattern }

// String names the subscription for fmt, which would otherwise read what is changing.
func (s *Subscription) String() string { return fmt.Sprintf("subscription to %q", s.orNone().pattern) }

// Format writes String, whatever the verb.
func (s *Subscription) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

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
	return s.gaps.droppedN
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
	s.closed, s.err = true, err
	if s.state == pending {
		close(s.ready)
	}
	close(s.messages)
	close(s.gaps.out)
	s.mu.Unlock()
	if !s.isRefused() { // how long it matters that it was refused depends on the context
		s.unwatch()
	}
	if s.topic != nil {
		s.topics.detach(s)
	}
}

// watch closes the subscription when ctx ends. It costs no goroutine while ctx lives.
func (s *Subscription) watch(ctx context.Context) {
	detach := context.AfterFunc(ctx, func() {
		s.shut(context.Cause(ctx))
		s.abandoned.Store(true)
		s.refusals.forget(s)
	})
	s.mu.Lock()
	closed := s.closed
	s.detach = detach
	s.mu.Unlock()
	if closed && !s.isRefused() {
		detach()
	}
}

// unwatch stops watching the context.
func (s *Subscription) unwatch() {
	s.mu.Lock()
	detach := s.detach
	s.mu.Unlock()
	if detach != nil {
		detach()
	}
}

// refused ends a subscription that Redis refused.
func (s *Subscription) refused(err refusedError) {
	if !s.isLate() { // or it was counted already
		s.metrics.subscribeErrors.Add(1)
	}
	s.shut(err)
	if !s.isRefused() { // it was closed before
		return
	}
	s.refusals.add(s)
	if s.abandoned.Load() {
		s.refusals.forget(s) // its context has ended meanwhile
	}
}

// isRefused reports whether Redis refused the subscription.
func (s *Subscription) isRefused() bool {
	_, refused := errors.AsType[refusedError](s.Err())
	return refused
}

// awaitReady waits until the subscription has begun. If it takes too long the subscription stays registered and becomes
// live by itself, with a gap.
func (s *Subscription) awaitReady(ctx context.Context, patience time.Duration, stopping <-chan struct{}) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-s.ready:
		return
	case <-timer.C:
	case <-ctx.Done():
	case <-stopping:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == pending && !s.closed {
		s.late = true
		s.metrics.subscribeErrors.Add(1)
	}
}

// isLate reports whether Subscribe gave up waiting.
func (s *Subscription) isLate() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.late
}

// hasBegun reports whether what is published arrives, at once or when the connection is back.
func (s *Subscription) hasBegun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state != pending
}

func (s *Subscription) isOpen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closed
}

func (s *Subscription) isBehind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == behind && !s.closed
}

// begin makes a subscription receive what is behind a position, from the connection.
func (s *Subscription) begin(at journal.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.state != pending {
		return
	}
	s.state, s.at, s.start = live, at, at
	if s.late {
		s.tell(Gap{Reason: GapLate})
	}
	close(s.ready)
}

// resume makes a subscription read the journal from where it wants to begin, as far as the connection has come at least:
// what came before the session was up was left to the journal. It reports whether it does. The status is that of the last
// heartbeat, nil if that tells nothing.
func (s *Subscription) resume(now *journal.Status, here *frontier) bool {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.state != pending {
		return false
	}
	s.state, s.start = behind, s.at
	close(s.ready)
	s.loose = s.at.IsZero()
	if now == nil {
		s.unsure = true
		return true
	}
	passed, _ := here.at()
	s.until = later(endPosition(now), passed.limit)
	switch {
	case s.at.Ms > 0 && s.at.Ms < now.Since:
		s.restart()
	case !s.until.Less(s.at) && s.at.Offset <= s.until.Offset:
	case s.until.Offset == s.at.Offset && s.at.Offset > 0:
		s.at.Ms = 0 // it expired, and nothing has come since
	default:
		s.restart()
	}
	return true
}

// restart is called when the journal is another one than that in which the subscription has got so far, so that all of it is new.
// The caller holds mu.
func (s *Subscription) restart() {
	s.tell(Gap{Reason: GapTrimmed})
	s.at, s.start, s.loose = journal.Position{}, journal.Position{}, true
}

// none reports whether no system made s.
func (s *Subscription) none() bool { return s == nil || s.messages == nil }

// orNone returns s, or in place of one that was never made another that is closed.
func (s *Subscription) orNone() *Subscription {
	if !s.none() {
		return s
	}
	closed := &Subscription{
		common: &common{}, messages: make(chan *Message), gaps: gaps{out: make(chan Gap)}, closed: true, err: errNoSubscription(),
	}
	close(closed.messages)
	close(closed.gaps.out)
	return closed
}

// errNoSubscription is the error of a subscription that Subscribe did not make.
func errNoSubscription() error {
	return &ArgumentError{Argument: "Subscription", Reason: "is nil or zero; Subscribe makes one"}
}
