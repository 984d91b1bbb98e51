package notification

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/glob"
	"github.com/compozy/cache/notification/internal/group"
	"github.com/compozy/cache/notification/internal/journal"
)

// Consume handles the events of a channel or glob together with all other callers that give the same name of a group, in any number of
// processes: each event is decoded into a T and handed to the function of one of them, at least once. An event is done when
// the function returns nil. One that failed, panicked or ended its goroutine comes again after a pause (WithBackoff), in any process of the group,
// and after some attempts (WithMaxAttempts) goes to the dead letters of the group, with its error. So does at once what does
// not decode, and what the function returns a Permanent error for. The events of a process that died are taken over by the
// others (WithClaimAfter), those of one that stops come again at once. The order is about that of publishing.
//
// A group begins with what is published from now on, or behind an event (WithFrom). From then on it keeps its progress in
// Redis, across restarts of everything, and a copy of every event that it has read and that is not done; with Redis' own
// keys and without a time to live. What the journal loses before the group has read it is a gap: see WithOnGap. What others
// publish with plain PUBLISH is in no journal, and does not come.
//
// The function's context carries the message (see MessageFrom), with Redelivered set if it was handed out before, the number
// of the attempt (see AttemptFrom), and the publisher's trace. It ends with ctx; an attempt that fails then does not count.
//
// Consume uses three connections of its own. It returns nil when ctx has ended, once the functions under way have returned,
// and ErrClosed when the system was closed: Shutdown waits for them, and cancels their contexts at the end of its budget. It
// returns an *ArgumentError for an argument that cannot be used, such as another pattern than that of the group, or a system
// that has no groups; ErrNoHistory; and a redis.Error if its user lacks a permission at the beginning. While Redis cannot be
// reached it tries again. If the group was removed meanwhile, or Redis lost it, and others have made it again with another pattern,
// Consume returns that *ArgumentError then.
func Consume[T any](
	ctx context.Context, n NotificationSystem, name, pattern string, handle func(context.Context, T) error,
	opts ...ConsumeOption,
) error {
	switch {
	case ctx == nil:
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	case n == nil:
		return &ArgumentError{Argument: "n", Reason: "is nil"}
	case handle == nil:
		return &ArgumentError{Argument: "handle", Reason: "is nil"}
	case name == "":
		return &ArgumentError{Argument: "group", Reason: "is empty"}
	}
	if err := validatePattern(pattern); err != nil {
		return err
	}
	set, err := newConsumeSettings(opts)
	if err != nil {
		return err
	}
	consumer, ok := n.(Consumer)
	if !ok {
		return &ArgumentError{Argument: "n", Reason: fmt.Sprintf("is a %T, which has no groups: it is no Consumer", n)}
	}
	return consumer.ConsumeMessages(ctx, name, pattern, func(ctx context.Context, m *Message) error {
		v, err := Decode[T](m)
		if err != nil {
			return Permanent(err)
		}
		return handle(ctx, v)
	}, set)
}

// Consumer is what Consume needs of a NotificationSystem.
type Consumer interface {
	// ConsumeMessages is Consume with a function that takes the message as it is. The arguments and settings were checked, and
	// the settings have their defaults filled in. An error that matches ErrPermanent is not worth another attempt.
	ConsumeMessages(
		ctx context.Context, group, pattern string, handle func(context.Context, *Message) error, set ConsumeSettings,
	) error
}

var _ Consumer = (*RedisNotificationSystem)(nil)

// ErrPermanent matches what Permanent returns.
var ErrPermanent = errors.New("notification: another attempt would change nothing")

// Permanent returns an error with which a function called by Consume says that another attempt at the event would change
// nothing: it goes to the dead letters at once. It matches ErrPermanent and err, whose text it has. Nil gives nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

type permanentError struct{ error }

func (e permanentError) Unwrap() error      { return e.error }
func (permanentError) Is(target error) bool { return target == ErrPermanent }

type attemptKey struct{}

// AttemptFrom returns how often the event that a function called by Consume works on was handed out by now, beginning with
// 1. It returns 0 for other contexts.
func AttemptFrom(ctx context.Context) int {
	attempt, _ := ctx.Value(attemptKey{}).(int)
	return attempt
}

// ConsumeContext returns the context for a function called by Consume, for implementations of Consumer: with the message, the
// number of the attempt, and the publisher's trace.
func ConsumeContext(ctx context.Context, m *Message, attempt int) context.Context {
	return context.WithValue(messageContext(ctx, m), attemptKey{}, attempt)
}

// ConsumeMessages is Consume with a function that takes the message as it is, and with settings in place of options, which
// are as Consume fills them in. Programs call Consume.
func (n *RedisNotificationSystem) ConsumeMessages(
	ctx context.Context, name, pattern string, handle func(context.Context, *Message) error, set ConsumeSettings,
) error {
	if err := n.admit(ctx); err != nil {
		if ctx != nil && ctx.Err() != nil {
			return nil
		}
		return err
	}
	switch {
	case n.set.history == 0:
		return ErrNoHistory
	case !isGlob(pattern) && n.keys.Reserved(n.set.channelPrefix+pattern):
		return &ArgumentError{Argument: "pattern", Reason: "gives a channel that only this module uses"}
	}
	handling, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	call := n.consumers.begin(cancel)
	if call == nil {
		return ErrClosed
	}
	defer n.consumers.end(call)
	c := &consumer{system: n, group: name, pattern: pattern, glob: isGlob(pattern), handle: handle, set: set}
	err := group.Run(handling, c.settings())
	var other *group.PatternError
	switch {
	case errors.As(err, &other):
		return &ArgumentError{Argument: "pattern", Reason: fmt.Sprintf("is %q, and that of the group %q is %q", pattern, name, other.Pattern)}
	case err != nil:
		return err
	case ctx.Err() != nil:
		return nil
	default:
		return ErrClosed
	}
}

// consumer is one call of ConsumeMessages.
type consumer struct {
	system  *RedisNotificationSystem
	group   string
	pattern string
	glob    bool
	handle  func(context.Context, *Message) error
	set     ConsumeSettings
}

func (c *consumer) settings() group.Settings {
	n := c.system
	return group.Settings{
		Client: n.client, Journal: n.keys, Group: c.group, Pattern: c.pattern, From: c.set.position(),
		Concurrency: c.set.Concurrency, MaxAttempts: c.set.MaxAttempts,
		FirstPause: c.set.FirstPause, LongestPause: c.set.LongestPause, Claim: c.set.ClaimAfter, DeadCap: c.set.DeadLetters,
		Body: c.body, Handle: c.one, Settled: c.settled, Ready: c.set.Ready, Gap: c.gap,
		Stop: n.draining, Log: n.set.logger,
	}
}

// body returns what the group keeps of an event: the channel that its pattern matches, with its length, and the value. It
// returns false if none matches.
func (c *consumer) body(e *journal.Entry) (string, bool) {
	for _, channel := range e.Channels {
		channel = strings.TrimPrefix(channel, c.system.set.channelPrefix)
		if channel == c.pattern && !c.glob || c.glob && glob.Match(c.pattern, channel) {
			return strconv.Itoa(len(channel)) + ":" + channel + e.Value, true
		}
	}
	return "", false
}

// openBody reads what body has made.
func openBody(body string) (channel, value string, ok bool) {
	digits, rest, found := strings.Cut(body, ":")
	length, err := strconv.Atoi(digits)
	if !found || err != nil || length < 0 || length > len(rest) {
		return "", "", false
	}
	return rest[:length], rest[length:], true
}

// message returns an event that a group holds as it would have arrived.
func (n *RedisNotificationSystem) message(id, body string) (*Message, bool) {
	channel, value, ok := openBody(body)
	if !ok {
		return nil, false
	}
	payload := journal.Seal(id, value)
	envelope, _ := journal.Open(payload, n.keys.Tag)
	return &Message{
		Channel: channel, Payload: payload, EventID: id, Time: envelope.Time, TraceParent: envelope.TraceParent, Recovered: true,
		Redelivered: envelope.Redelivered,
	}, true
}

// one hands an event to the function.
func (c *consumer) one(ctx context.Context, e group.Event) group.Result {
	if e.Abandoned {
		c.system.metrics.claimed.Add(1)
	}
	m, ok := c.system.message(e.ID, e.Body)
	if !ok {
		return group.Result{Err: fmt.Errorf("%w: event %s of a group", journal.ErrProtocol, e.ID), Dead: true}
	}
	if c.glob {
		m.Pattern = c.pattern
	}
	m.Redelivered = m.Redelivered || e.Attempt > 1 || e.Returned
	ctx = ConsumeContext(ctx, m, e.Attempt)
	ctx, span := c.system.tracer.process(ctx, m, c.group)
	err := group.ErrEnded
	defer func() { span.end(err) }()
	err = guarded(func() error { return c.handle(ctx, m) })
	return group.Result{Err: err, Dead: errors.Is(err, ErrPermanent)}
}

// settled counts and logs what became of an event.
func (c *consumer) settled(e group.Event, o group.Outcome, err error) {
	m := c.system.metrics
	if o == group.Done {
		m.consumed.Add(1)
		return
	}
	if o == group.Back {
		return
	}
	m.handlerErrors.Add(1)
	channel, _, _ := openBody(e.Body)
	fields := []zap.Field{
		zap.String("group", c.group), zap.String("channel", channel), zap.String("event_id", e.ID),
		zap.Int("attempt", e.Attempt), zap.Error(err),
	}
	if panicked, ok := errors.AsType[*panicError](err); ok {
		fields = append(fields, zap.ByteString("stack", panicked.stack))
	}
	if o == group.Dead {
		m.deadLetters.Add(1)
		c.system.set.logger.Error("notification: event given up, and put into the dead letters", fields...)
		return
	}
	m.retried.Add(1)
	c.system.set.logger.Warn("notification: handler failed, and gets the event again", fields...)
}

// gap reports that events may be missing.
func (c *consumer) gap(reason journal.Reason, after string, missed uint64) {
	g := Gap{Reason: GapReason(reason), After: after, Missed: missed, Time: time.Now()}
	c.system.metrics.gap(g.Reason)
	fields := []zap.Field{zap.String("reason", string(g.Reason)), zap.String("group", c.group)}
	if missed > 0 { // else their number is unknown
		fields = append(fields, zap.Uint64("missed", missed))
	}
	c.system.set.logger.Warn("notification: events may be missing", fields...)
	if c.set.OnGap == nil {
		return
	}
	err := guarded(func() error {
		c.set.OnGap(g)
		return nil
	})
	if panicked, ok := errors.AsType[*panicError](err); ok {
		c.system.set.logger.Error("notification: the function for gaps panicked",
			zap.String("group", c.group), zap.Error(err), zap.ByteString("stack", panicked.stack))
	}
}

// consumers are the calls of Consume under way. Its zero value is ready.
type consumers struct {
	mu     sync.Mutex
	calls  map[*consumerCall]struct{} // guarded by mu
	closed bool                       // guarded by mu
}

// consumerCall is one of them.
type consumerCall struct {
	cancel context.CancelCauseFunc
	over   chan struct{}
}

// begin notes a call whose functions cancel stops. It returns nil once the system was closed.
func (c *consumers) begin(cancel context.CancelCauseFunc) *consumerCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	call := &consumerCall{cancel: cancel, over: make(chan struct{})}
	if c.calls == nil {
		c.calls = make(map[*consumerCall]struct{})
	}
	c.calls[call] = struct{}{}
	return call
}

// end notes that a call has returned.
func (c *consumers) end(call *consumerCall) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, call)
	close(call.over)
}

// stop waits until all calls have returned, which take nothing on any more. It cancels their functions when ctx ends, and
// returns the cause of ctx then.
func (c *consumers) stop(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	calls := slices.Collect(maps.Keys(c.calls))
	c.mu.Unlock()
	var err error
	for _, call := range calls {
		select {
		case <-call.over:
			continue
		default:
		}
		select {
		case <-call.over:
		case <-ctx.Done():
			call.cancel(ErrClosed)
			err = context.Cause(ctx)
		}
	}
	return err
}
