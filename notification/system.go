package notification

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification/internal/feed"
	"github.com/compozy/cache/notification/internal/journal"
	"github.com/compozy/cache/notification/internal/publisher"
)

// closeBudget is how long Close lets subscribers take what is buffered.
const closeBudget = time.Second

// NotificationSystem publishes events and subscribes to them. All its methods are safe for concurrent use.
//
//nolint:revive // The name is part of the published API, and package cache exports it under the same name.
type NotificationSystem interface {
	// PublishWorkflowEvent publishes the event to "workflow:events" and "workflow:<ID>". It returns nil when that is
	// done, and otherwise an *ArgumentError, ErrClosed or a *PublishError.
	PublishWorkflowEvent(ctx context.Context, event *WorkflowEvent) error
	// PublishTaskEvent publishes the event to "task:events", "task:<ID>" and, if it has a workflow,
	// "task:workflow:<workflow ID>". Its errors are those of PublishWorkflowEvent.
	PublishTaskEvent(ctx context.Context, event *TaskEvent) error
	// Subscribe listens to a channel or a glob until ctx ends, or the subscriber or the system is closed. What is
	// published after it has returned arrives. It never returns nil: a subscriber that was refused is closed already.
	Subscribe(ctx context.Context, pattern string) Subscriber
	// Close closes all subscribers; further calls are refused with ErrClosed. It may be repeated.
	Close() error
}

var _ NotificationSystem = (*RedisNotificationSystem)(nil)

// RedisNotificationSystem is a NotificationSystem on Redis. All its methods are safe for concurrent use.
type RedisNotificationSystem struct {
	set       settings
	keys      journal.Keys
	client    redis.UniversalClient
	metrics   *metrics
	publisher *publisher.Publisher
	tracer    tracer
	consumers consumers
	handlers  handlers
	journal   *journal.Journal

	// The subscribing side. Of it, the feed calls the dispatcher, that hands messages to subscriptions and those that are
	// behind to the catch-up.
	common  *common
	topics  *topics
	health  *liveness
	feed    *feed.Feed
	catchup *catchup

	startOnce sync.Once
	working   atomic.Int32       // of the catch-up: not started, at work, or ended
	ctx       context.Context    // ends when catching up is to end
	cancel    context.CancelFunc // ends it
	caughtUp  chan struct{}      // closed when the catch-up has ended, or never will begin

	stopOnce sync.Once
	draining chan struct{} // closed when Shutdown begins
	stopping chan struct{} // closed when it has drained
	stopped  chan struct{} // closed when it is done
}

// The life of the catch-up.
const (
	notStarted int32 = iota
	atWork
	stoppedEarly
)

// stopGrace is how long Shutdown waits for goroutines beyond its context.
const stopGrace = 100 * time.Millisecond

// NewRedisNotificationSystem returns a system that uses the client, which stays the caller's to close. It talks to
// nobody and starts nothing: the shared connection and its goroutines begin with the first Subscribe. A nil client, a
// *redis.Ring or a senseless option gives an *ArgumentError.
func NewRedisNotificationSystem(client redis.UniversalClient, opts ...Option) (*RedisNotificationSystem, error) {
	if redisx.IsNil(client) {
		return nil, &ArgumentError{Argument: "client", Reason: "is nil, or a client that no constructor made"}
	}
	if _, ok := redisx.Unwrap[*redis.Ring](client); ok {
		return nil, &ArgumentError{Argument: "client", Reason: "is a *redis.Ring, whose servers do not share channels"}
	}
	set, err := newSettings(opts)
	if err != nil {
		return nil, err
	}
	n := &RedisNotificationSystem{
		set: set, keys: set.keys(databaseOf(client)), client: client, metrics: newMetrics(set.name),
		caughtUp: make(chan struct{}),
		draining: make(chan struct{}), stopping: make(chan struct{}), stopped: make(chan struct{}),
	}
	n.publisher = publisher.New(publisher.Settings{
		Client: client, Keys: n.keys, ChannelPrefix: set.channelPrefix, MaxEventSize: set.maxEventSize,
		History: set.history, HistoryTTL: set.historyTTL, HistoryBytes: set.historyBytes,
	})
	n.tracer = newTracer(set.tracing)
	n.journal = journal.New(n.keys)
	n.listen()
	return n, nil
}

// listen makes the subscribing side, which starts with the first Subscribe.
func (n *RedisNotificationSystem) listen() {
	n.ctx, n.cancel = context.WithCancel(redisx.Background(context.Background()))
	n.topics, n.health = newTopics(), newLiveness()
	frontier, ring := &frontier{}, &ring{}
	d := &dispatcher{
		tag: n.keys.Tag, history: n.set.history > 0, patience: n.set.deadline(), topics: n.topics, journal: n.journal,
		metrics: n.metrics, log: n.set.logger, frontier: frontier, ring: ring, health: n.health, barrier: newBarrier(),
	}
	n.feed = feed.New(n.feedSettings(), d)
	d.beatSoon, n.topics.asker = n.feed.BeatSoon, n.feed
	n.common = &common{
		policy: n.set.policy, buffer: n.set.bufferSize, log: n.set.logger, metrics: n.metrics, topics: n.topics,
		refusals: &refusals{}, barrier: d.barrier, beatSoon: n.feed.BeatSoon,
	}
	if d.history {
		n.common.frontier = frontier
	}
	d.refusals = n.common.refusals
	c := newCatchup(frontier, n.journal.NewReader(n.set.deadline()), ring)
	c.prefix, c.beatSoon, c.recovered = n.set.channelPrefix, n.feed.BeatSoon, d.recovered
	c.metrics, c.log = n.metrics, n.set.logger
	n.catchup, d.catchup = c, c
}

func (n *RedisNotificationSystem) feedSettings() feed.Settings {
	set := feed.Settings{
		Client: n.client, Key: n.keys.Journal, Channel: n.keys.Heartbeat + n.publisher.Own() + ":", Prefix: n.set.channelPrefix,
		Internal: n.keys.Internal, Heartbeat: n.set.heartbeat, Linger: n.set.linger, MaxPause: n.set.longestPause,
		Logger: n.set.logger,
	}
	if n.set.history > 0 {
		set.Needs = "EVAL, EVALSHA, HMGET, HSET, PTTL, PEXPIRE, XLEN, XREVRANGE, PUBLISH"
		set.Beat = func(ctx context.Context, c redis.UniversalClient, channel string, number uint64) error {
			_, err := n.journal.Beat(ctx, journal.Server{Client: c}, channel, number)
			return err
		}
	}
	return set
}

// start begins to listen.
func (n *RedisNotificationSystem) start() {
	n.working.Store(atWork)
	go func() {
		defer close(n.caughtUp)
		defer n.working.Store(stoppedEarly)
		n.catchup.work(n.ctx)
	}()
	n.feed.Start()
}

// String names the system for fmt, which would otherwise read what is changing.
func (n *RedisNotificationSystem) String() string {
	n = n.orNone()
	return fmt.Sprintf("notification system %q", n.set.name)
}

// Format writes String, whatever the verb.
func (n *RedisNotificationSystem) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, n.String()) }

// Subscribe listens to a channel, or to a glob if the name contains *, ?, [ or \. What it returns is always a
// *Subscription. It returns when Redis has confirmed, so that whatever is published afterwards arrives. If Redis
// does not confirm within the ping timeout, the subscription becomes live by itself later and its first message
// carries a Gap with the reason GapLate.
//
// When ctx ends, before or after that, the subscription is closed. So ctx should be that of the component that listens,
// made by it and cancelled when it stops. The context of an Fx start hook ends with the start timeout.
//
// A subscription that was refused is closed, and its Err says why: an *ArgumentError, the cause of ctx, ErrClosed, or
// a redis.Error if Redis does not let its user listen to the name. The latter may come later too, when the connection
// is made again after the permission was taken.
func (n *RedisNotificationSystem) Subscribe(ctx context.Context, pattern string) Subscriber {
	n = n.orNone()
	return n.subscribe(ctx, newSubscription(n.common, pattern))
}

// SubscribeFrom is Subscribe for a subscriber that has handled everything up to an event and wants what came after
// it: first from the journal, then live. An empty event ID means everything the journal still has. If the journal
// does not reach back to the event, or has not come as far because it is another one by now, the subscription begins
// with what the journal has and the first message carries a Gap with the reason GapTrimmed. An event ID that is none,
// or history switched off, gives a closed subscription whose Err says so.
//
// The event's ID is all that is known of the time before. Of a failover in that time, or a restart with older data, in which
// later events were lost, no gap is reported if the journal still has this one, or another one with the same ID: published in the
// same millisecond, after just as many bytes.
func (n *RedisNotificationSystem) SubscribeFrom(ctx context.Context, pattern, eventID string) *Subscription {
	n = n.orNone()
	s := newSubscription(n.common, pattern)
	s.resumes = true
	if n.set.history == 0 && !n.none() {
		return n.refuse(s, ErrNoHistory)
	}
	at, err := positionOf("eventID", eventID, journal.Position{})
	if err != nil {
		return n.refuse(s, err)
	}
	s.at, s.lastID = at, eventID
	return n.subscribe(ctx, s)
}

// SubscribeWorkflow is Subscribe for the events of one workflow, whatever its ID contains: no byte of it has the meaning
// that a glob would give it. For the ID "events", whose channel carries the events of all workflows, the others are left
// out, and so is what is no event with this ID. An ID that is empty or not UTF-8 is refused with an
// *ArgumentError.
func (n *RedisNotificationSystem) SubscribeWorkflow(ctx context.Context, id string) *Subscription {
	return n.subscribeOne(ctx, workflowPrefix, id, workflowPrefix+id == WorkflowEvents)
}

// SubscribeTask is SubscribeWorkflow for the events of one task. The IDs whose channel carries other events as well are
// "events" and those that begin with "workflow:".
func (n *RedisNotificationSystem) SubscribeTask(ctx context.Context, id string) *Subscription {
	channel := taskPrefix + id
	return n.subscribeOne(ctx, taskPrefix, id, channel == TaskEvents || strings.HasPrefix(channel, taskWorkflowPrefix))
}

// subscribeOne subscribes to the channel of one ID, which is perhaps shared with others.
func (n *RedisNotificationSystem) subscribeOne(ctx context.Context, prefix, id string, shared bool) *Subscription {
	n = n.orNone()
	s := newSubscription(n.common, prefix+id)
	s.name.Glob = false
	if shared {
		s.only = id
	}
	if err := n.admitSubscriber(ctx); err != nil {
		return n.refuse(s, err)
	}
	if id == "" {
		return n.refuse(s, &ArgumentError{Argument: "id", Reason: "is empty"})
	}
	if err := validateID("id", id); err != nil {
		return n.refuse(s, err)
	}
	return n.begin(ctx, s, "id")
}

// subscribe begins a subscription whose pattern is a caller's.
func (n *RedisNotificationSystem) subscribe(ctx context.Context, s *Subscription) *Subscription {
	err := n.admitSubscriber(ctx)
	if err == nil {
		err = validatePattern(s.pattern)
	}
	if err != nil {
		return n.refuse(s, err)
	}
	return n.begin(ctx, s, "pattern")
}

// begin makes a subscription receive whose name, made of the argument given, can be subscribed to.
func (n *RedisNotificationSystem) begin(ctx context.Context, s *Subscription, argument string) *Subscription {
	if !s.name.Glob && n.keys.Reserved(n.set.channelPrefix+s.pattern) {
		return n.refuse(s, &ArgumentError{Argument: argument, Reason: "gives a channel that only this module uses"})
	}
	n.topics.attach(s)
	n.startOnce.Do(n.start)
	s.watch(ctx)
	s.awaitReady(ctx, n.set.pingTimeout, n.draining)
	if n.closed() {
		// The shutdown may have collected the subscriptions just before this one was added.
		s.shut(ErrClosed)
	}
	return s
}

// refuse closes a subscription that never began.
func (n *RedisNotificationSystem) refuse(s *Subscription, err error) *Subscription {
	n.metrics.subscribeErrors.Add(1)
	s.shut(err)
	return s
}

// admit returns why the system takes nothing on, or nil.
func (n *RedisNotificationSystem) admit(ctx context.Context) error {
	switch {
	case n.none():
		return errNoSystem()
	case ctx == nil:
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case n.closed():
		return ErrClosed
	default:
		return nil
	}
}

// admitSubscriber is admit for what takes no part in draining.
func (n *RedisNotificationSystem) admitSubscriber(ctx context.Context) error {
	if err := n.admit(ctx); err != nil {
		return err
	}
	if n.isDraining() {
		return ErrClosed
	}
	return nil
}

// isDraining reports whether Shutdown was called.
func (n *RedisNotificationSystem) isDraining() bool {
	select {
	case <-n.draining:
		return true
	default:
		return false
	}
}

// closed reports whether Shutdown has drained.
func (n *RedisNotificationSystem) closed() bool {
	select {
	case <-n.stopping:
		return true
	default:
		return false
	}
}

// none reports whether NewRedisNotificationSystem did not make n.
func (n *RedisNotificationSystem) none() bool { return n == nil || n.feed == nil }

// orNone returns n, or in place of one that was never made another that can refuse.
func (n *RedisNotificationSystem) orNone() *RedisNotificationSystem {
	if n.none() {
		m := newMetrics(defaultName)
		return &RedisNotificationSystem{metrics: m, common: &common{metrics: m, refusals: &refusals{}}}
	}
	return n
}

// errNoSystem is the error of a system that NewRedisNotificationSystem did not make.
func errNoSystem() error {
	return &ArgumentError{Argument: "RedisNotificationSystem", Reason: "is nil or zero; NewRedisNotificationSystem makes one"}
}
