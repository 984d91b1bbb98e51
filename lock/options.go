package lock

import (
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// minTTL is the shortest TTL: below it the allowance for clock drift and scheduling eats the lock.
	minTTL = 10 * time.Millisecond
	// minNodeTimeout and maxNodeTimeout bound how long a node may take to answer if WithNodeTimeout does not say
	// otherwise.
	minNodeTimeout = 50 * time.Millisecond
	maxNodeTimeout = 2 * time.Second
)

// Option changes how a [RedisLockManager] works.
type Option func(*settings)

// settings is what the options add up to.
type settings struct {
	nodes       []redis.UniversalClient
	nodesGiven  bool
	prefix      string
	name        string
	logger      *zap.Logger
	nodeTimeout time.Duration // 0: half the TTL, at most maxNodeTimeout
	renewal     bool
}

// WithNodes puts the locks on independent masters instead of the manager's client: a lock is held when a majority of
// them grants it, as Redlock describes. Use three or five; an even number tolerates no more failures than the odd one
// below it. The clients stay the caller's, who closes them after the manager.
func WithNodes(clients ...redis.UniversalClient) Option {
	return func(s *settings) { s.nodes, s.nodesGiven = append([]redis.UniversalClient(nil), clients...), true }
}

// WithKeyPrefix sets what the names of all keys and channels begin with, overriding the default of "cache:". Managers
// exclude each other only if they have the same prefix. It must not begin a hash tag with "{}".
func WithKeyPrefix(prefix string) Option {
	return func(s *settings) { s.prefix = prefix }
}

// WithLogger sets the logger for lost locks and failed renewals. The default, also for nil, is to log nothing.
func WithLogger(logger *zap.Logger) Option {
	return func(s *settings) {
		if logger != nil {
			s.logger = logger
		}
	}
}

// WithName sets the value of the label "cache" of all metrics, overriding the default of "default".
func WithName(name string) Option {
	return func(s *settings) { s.name = name }
}

// WithNodeTimeout sets how long a node may take to answer one call, connecting included, before the call counts as
// failed. The default, also for 0, is half of the lock's TTL, but at least 50ms and at most 2s; releases, for which the
// TTL does not matter, have 2s.
func WithNodeTimeout(d time.Duration) Option {
	return func(s *settings) { s.nodeTimeout = d }
}

// WithRenewal says whether locks are renewed automatically; the default is true. Without renewal they end after their
// TTL unless Refresh is called, and whoever holds one is still told in time.
func WithRenewal(on bool) Option {
	return func(s *settings) { s.renewal = on }
}

// collect applies the options and checks the result.
func collect(client redis.UniversalClient, opts []Option) (settings, error) {
	s := settings{prefix: "cache:", name: "default", logger: zap.NewNop(), renewal: true}
	for _, opt := range opts {
		if opt == nil {
			return s, &ArgumentError{Argument: "opts", Reason: "contains nil"}
		}
		opt(&s)
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
	for _, node := range s.nodes {
		if redisx.IsNil(node) {
			return s, &ArgumentError{Argument: argument, Reason: where + " nil, or a client that no constructor made"}
		}
		if _, ok := redisx.Unwrap[*redis.Ring](node); ok {
			return s, &ArgumentError{Argument: argument, Reason: where + " a *redis.Ring, which moves keys to another " +
				"server when one seems down: two would hold the same lock"}
		}
	}
	if s.nodeTimeout < 0 {
		return s, &ArgumentError{Argument: "WithNodeTimeout", Reason: "is negative"}
	}
	// Keys of one resource must share a hash tag, and Redis looks at the first brace only.
	if open := strings.IndexByte(s.prefix, '{'); open >= 0 && strings.HasPrefix(s.prefix[open:], "{}") {
		return s, &ArgumentError{Argument: "WithKeyPrefix", Reason: `contains the empty hash tag "{}"`}
	}
	return s, nil
}

// timeout returns how long a node may take to answer a call about a lock with this TTL.
func (s *settings) timeout(ttl time.Duration) time.Duration {
	if s.nodeTimeout > 0 {
		return s.nodeTimeout
	}
	return min(max(ttl/2, minNodeTimeout), maxNodeTimeout)
}

// releaseTimeout returns how long a node may take to release a lock.
func (s *settings) releaseTimeout() time.Duration {
	if s.nodeTimeout > 0 {
		return s.nodeTimeout
	}
	return maxNodeTimeout
}
