package lock

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/lock/internal/store"
)

const (
	// minTTL is the shortest TTL: below it the allowance for clock drift and scheduling eats the lock.
	minTTL = 10 * time.Millisecond
	// minNodeTimeout and maxNodeTimeout bound how long a node may take to answer if WithNodeTimeout does not say
	// otherwise.
	minNodeTimeout = 50 * time.Millisecond
	maxNodeTimeout = 2 * time.Second
	// minRenewalTimeout is how long a renewal may take at least, where that is not more than another call: a sixth of a
	// short TTL is less than a round trip to a far server.
	minRenewalTimeout = 250 * time.Millisecond
	// maxClassName is how long the name of a class may be.
	maxClassName = 64
)

// Option changes how a [RedisLockManager] works, or with [RedisLockManager.With] some calls of it only.
type Option func(*settings)

// settings is what the options add up to.
type settings struct {
	nodes      []redis.UniversalClient
	nodesGiven bool
	prefix     string
	name       string
	logger     *zap.Logger
	tracing    trace.TracerProvider
	timeouts   timeouts
	call       callSettings

	// whole is the last option that was given for the whole manager; With refuses those.
	whole string
}

// callSettings is what may differ from call to call.
type callSettings struct {
	owner                string
	className            string
	class                *class // what is counted, once it is known that the settings can be used
	renewal              bool
	maxHold, holdAtLeast time.Duration
}

// WithNodes puts the locks on independent masters instead of the manager's client: a lock is held when a majority of
// them grants it, as Redlock describes. Use three or five; an even number tolerates no more failures than the odd one
// below it. The clients stay the caller's, who closes them after the manager. The same client twice is refused, and so is
// the same address with the same database. Renewals do not run the clients' hooks, see [NewRedisLockManager].
func WithNodes(clients ...redis.UniversalClient) Option {
	return func(s *settings) {
		s.nodes, s.nodesGiven, s.whole = append([]redis.UniversalClient(nil), clients...), true, "WithNodes"
	}
}

// WithKeyPrefix sets what the names of all keys and channels begin with, overriding the default of "cache:". Managers
// exclude each other only if they have the same prefix. It must not begin a hash tag with "{}".
func WithKeyPrefix(prefix string) Option {
	return func(s *settings) { s.prefix, s.whole = prefix, "WithKeyPrefix" }
}

// WithLogger sets the logger for lost locks and failed renewals. The default, also for nil, is to log nothing.
func WithLogger(logger *zap.Logger) Option {
	return func(s *settings) {
		s.whole = "WithLogger"
		if logger != nil {
			s.logger = logger
		}
	}
}

// WithName sets the value of the label "cache" of all metrics, overriding the default of "default".
func WithName(name string) Option {
	return func(s *settings) { s.name, s.whole = name, "WithName" }
}

// WithNodeTimeout sets how long a node may take to answer one call, connecting included, before the call counts as
// failed. The default, also for 0, is half of the lock's TTL, but at least 50ms and at most 2s; releases, for which the
// TTL does not matter, have 2s. Automatic renewals have 2s at most, and on a connection that is open a sixth of the TTL
// or 250ms, whichever is longer, so that there is time to repeat one.
func WithNodeTimeout(d time.Duration) Option {
	return func(s *settings) { s.timeouts.node, s.whole = d, "WithNodeTimeout" }
}

// WithRenewal says whether locks are renewed automatically; the default is true. Without renewal they end after their
// TTL unless Refresh is called, and their holders are still notified in time.
func WithRenewal(on bool) Option {
	return func(s *settings) { s.call.renewal = on }
}

// WithTracerProvider traces calls: spans lock.acquire, lock.wait and lock.release with the attributes lock.resource,
// lock.outcome and lock.token; a release is linked to the call that acquired the lock. The default, also for nil, is not to.
func WithTracerProvider(tp trace.TracerProvider) Option {
	return func(s *settings) { s.tracing, s.whole = tp, "WithTracerProvider" }
}

// WithOwner sets the name of the holder that [RedisLockManager.Inspect] shows, such as that of the host or worker. The
// default is none; Inspect then shows something random that all locks of the manager have in common.
func WithOwner(name string) Option {
	return func(s *settings) { s.call.owner = name }
}

// WithClass sets the value of the label "class" of the metrics that count acquisitions and losses, and of the times to wait
// and to hold, such as "invoices": what the lock is for, and not the name of the resource. The default is none, "". A name
// is at most 64 bytes of valid UTF-8. A manager shows the first 50 classes that it learns of; all
// others count as class "other".
func WithClass(name string) Option {
	return func(s *settings) { s.call.className = name }
}

// WithMaxHold ends a lock that is still held after d, however often it is renewed: it is lost then, with the cause
// ErrLockExpired. So a lock that was forgotten comes free. The default, 0, is not to.
func WithMaxHold(d time.Duration) Option {
	return func(s *settings) { s.call.maxHold = d }
}

// WithHoldAtLeast keeps the lock taken for d from its acquisition, even if it is released before: for a short job that is
// to run on one of many machines at a time, whose clocks differ. The default, 0, is not to.
func WithHoldAtLeast(d time.Duration) Option {
	return func(s *settings) { s.call.holdAtLeast = d }
}

// With returns a view of the manager whose calls have settings of their own: [WithOwner], [WithClass], [WithMaxHold],
// [WithHoldAtLeast], [WithRenewal]; what is not given is as the manager has it. The locks are the manager's, which
// counts, renews and closes them. Options for the whole manager make the calls of the view fail with ErrInvalidArgument,
// and so do values that cannot be used. Safe for concurrent use.
func (m *RedisLockManager) With(opts ...Option) Locker {
	switch {
	case m.none():
		return new(RedisLockManager)
	case m.err != nil:
		return m
	}
	s := settings{call: m.call}
	err := s.apply(opts)
	if s.whole != "" {
		err = &ArgumentError{Argument: s.whole, Reason: "is for a whole manager: pass it to NewRedisLockManager"}
	}
	if err == nil {
		s.call.class = m.keeper.metrics.class(s.call.className)
	}
	return &RedisLockManager{core: m.core, call: s.call, err: err}
}

// apply applies the options, and checks those that may differ from call to call.
func (s *settings) apply(opts []Option) error {
	if slices.ContainsFunc(opts, func(o Option) bool { return o == nil }) {
		return &ArgumentError{Argument: "opts", Reason: "contains nil"}
	}
	for _, opt := range opts {
		opt(s)
	}
	switch c := s.call; {
	case c.maxHold < 0, c.maxHold > 0 && c.maxHold < minTTL:
		return &ArgumentError{Argument: "WithMaxHold", Reason: "is " + c.maxHold.String() + ", less than " + minTTL.String()}
	case len(c.className) > maxClassName:
		return &ArgumentError{Argument: "WithClass", Reason: fmt.Sprintf("is longer than %d bytes", maxClassName)}
	case !utf8.ValidString(c.className):
		return &ArgumentError{Argument: "WithClass", Reason: "is no valid UTF-8"}
	case c.holdAtLeast < 0:
		return &ArgumentError{Argument: "WithHoldAtLeast", Reason: "is negative"}
	}
	return nil
}

// collect applies the options and checks the result.
func collect(client redis.UniversalClient, opts []Option) (settings, error) {
	s := settings{prefix: "cache:", name: "default", logger: zap.NewNop(), call: callSettings{renewal: true}}
	if err := s.apply(opts); err != nil {
		return s, err
	}
	if !s.nodesGiven {
		s.nodes = []redis.UniversalClient{client}
	}
	if len(s.nodes) == 0 {
		return s, &ArgumentError{Argument: "WithNodes", Reason: "names no node"}
	}
	argument, where := "client", "is"
	if s.nodesGiven {
		argument, where = "WithNodes", "contains"
	}
	for i, node := range s.nodes {
		if redisx.IsNil(node) {
			return s, &ArgumentError{Argument: argument, Reason: where + " nil, or a client that no constructor made"}
		}
		if _, ok := redisx.Unwrap[*redis.Ring](node); ok {
			return s, &ArgumentError{Argument: argument, Reason: where + " a *redis.Ring, which moves keys to another " +
				"server when one seems down: two would hold the same lock"}
		}
		if slices.ContainsFunc(s.nodes[:i], func(other redis.UniversalClient) bool { return redisx.Same(node, other) }) {
			return s, &ArgumentError{Argument: argument, Reason: where + " the same server twice"}
		}
	}
	if s.timeouts.node < 0 {
		return s, &ArgumentError{Argument: "WithNodeTimeout", Reason: "is negative"}
	}
	// Keys of one resource must share a hash tag, and Redis looks at the first brace only.
	if open := strings.IndexByte(s.prefix, '{'); open >= 0 && strings.HasPrefix(s.prefix[open:], "{}") {
		return s, &ArgumentError{Argument: "WithKeyPrefix", Reason: `contains the empty hash tag "{}"`}
	}
	return s, nil
}

// timeouts is how long Redis may take to answer.
type timeouts struct{ node time.Duration } // 0: half the TTL, at most maxNodeTimeout

// call returns how long a call about a lock with this TTL may take.
func (t timeouts) call(ttl time.Duration) time.Duration {
	if t.node > 0 {
		return t.node
	}
	return min(max(ttl/2, minNodeTimeout), maxNodeTimeout)
}

// renewal returns how long the renewal of a lock with this TTL may take: when it has failed there is to be time for more, also
// when no connection could be opened for it.
func (t timeouts) renewal(ttl time.Duration) store.Timeouts {
	longest := min(t.call(ttl), maxNodeTimeout)
	return store.Timeouts{
		Open: min(max(ttl/6, minRenewalTimeout), longest), Opening: min(max(ttl/20*9, minRenewalTimeout), longest),
	}
}

// release returns how long a release may take.
func (t timeouts) release() time.Duration {
	return t.call(2 * maxNodeTimeout) // the TTL does not matter
}
