package notification

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
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
	keys      keys
	client    redis.UniversalClient
	metrics   *metrics
	registry  *registry
	publisher *publisher.Publisher
	journal   *journal
	pump      *pump
	tracer    tracer
	consumers consumers

	stopOnce sync.Once
	stopping chan struct{} // closed when Shutdown begins
	stopped  chan struct{} // closed when it is done
}

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
		set: set, keys: set.keys(databaseOf(client)), client: client,
		metrics: newMetrics(set.name), registry: newRegistry(),
		stopping: make(chan struct{}), stopped: make(chan struct{}),
	}
	n.publisher = publisher.New(publisher.Settings{
		Client: client, Keys: set.journalKeys(databaseOf(client)), ChannelPrefix: set.channelPrefix,
		MaxEventSize: set.maxEventSize, History: set.history, HistoryTTL: set.historyTTL, HistoryBytes: set.historyBytes,
	})
	n.journal = newJournal(client, n.keys)
	n.pump = newPump(n)
	n.tracer = newTracer(set.tracing)
	return n, nil
}

// String names the system for fmt, which would otherwise read what is changing.
func (n *RedisNotificationSystem) String() string {
	n = n.orNone()
	return fmt.Sprintf("notification system %q", n.set.name)
}

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
// is made anew after the permission was taken.
func (n *RedisNotificationSystem) Subscribe(ctx context.Context, pattern string) Subscriber {
	n = n.orNone()
	return n.subscribe(ctx, newSubscription(n, pattern))
}

// SubscribeFrom is Subscribe for a subscriber that has handled everything up to an event and wants what came after
// it: first from the journal, then live. An empty event ID means everything the journal still has. If the journal
// does not reach back to the event, or has not come as far because it is another one by now, the subscription begins
// with what the journal has and the first message carries a Gap with the reason GapTrimmed. An event ID that is none,
// or history switched off, gives a closed subscription whose Err says so.
//
// The event's ID is all that is known of the time before. Of a failover while the program was down, in which later events
// were lost, nothing is told if the journal still has this one, or another one to which the new master gave the same ID.
func (n *RedisNotificationSystem) SubscribeFrom(ctx context.Context, pattern, eventID string) *Subscription {
	n = n.orNone()
	s := newSubscription(n, pattern)
	s.resumes = true
	if n.set.history == 0 && !n.none() {
		return n.refuse(s, ErrNoHistory)
	}
	at, err := positionOf("eventID", eventID, position{})
	if err != nil {
		return n.refuse(s, err)
	}
	s.from, s.last, s.lastID = at, at, eventID
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
	s := newSubscription(n, prefix+id)
	s.glob = false
	if shared {
		s.only = id
	}
	if err := n.admit(ctx); err != nil {
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
	err := n.admit(ctx)
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
	if !s.glob && n.keys.reserved(s.pattern) {
		return n.refuse(s, &ArgumentError{Argument: argument, Reason: "gives a channel that only this module uses"})
	}
	ready := n.pump.add(s)
	s.ready = ready
	s.watch(ctx)
	s.awaitLive(ctx, ready, n.set.pingTimeout)
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

func (n *RedisNotificationSystem) closed() bool {
	select {
	case <-n.stopping:
		return true
	default:
		return false
	}
}

// Close is Shutdown with a budget of one second. It returns nil, and may be called more than once.
func (n *RedisNotificationSystem) Close() error {
	if n.none() {
		return errNoSystem()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeBudget)
	defer cancel()
	// Running out of budget is no failure of Close: what is buffered can still be received.
	_ = n.Shutdown(ctx)
	return nil
}

// Shutdown stops listening, gives the subscribers until ctx ends to take what is buffered, and then closes them
// all. Their channels still hand out what is left in the buffers. It returns the cause of ctx if messages remained,
// and nil otherwise. Further calls wait for the first one.
func (n *RedisNotificationSystem) Shutdown(ctx context.Context) error {
	if n.none() {
		return errNoSystem()
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	first := false
	n.stopOnce.Do(func() { first = true })
	if !first {
		select {
		case <-n.stopped:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer close(n.stopped)
	close(n.stopping)
	n.pump.stopListening(ctx)
	err := n.drain(ctx)
	if stopped := n.consumers.stop(ctx); err == nil {
		err = stopped
	}
	if d := n.pump.dispatcher; err == nil && (d.thrown.Load() || d.abort.Load() && n.pump.pending.Load() > 0) {
		err = context.Cause(ctx)
	}
	n.pump.stopReplaying()
	for _, s := range n.registry.subscriptions() {
		s.shut(ErrClosed)
	}
	return err
}

// drain waits until every buffer is empty.
func (n *RedisNotificationSystem) drain(ctx context.Context) error {
	// Receiving from a Go channel wakes nobody, so emptiness can only be asked for.
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		u := n.registry.bufferUse()
		if u.buffered == 0 && u.replaying == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
