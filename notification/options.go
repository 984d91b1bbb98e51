package notification

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification/internal/journal"
)

// Defaults of the options.
const (
	defaultBufferSize  = 100
	defaultKeyPrefix   = "cache:"
	defaultPingTimeout = time.Second
	defaultHistory     = 10_000
	defaultHistoryTTL  = time.Hour
	defaultHeartbeat   = 3 * time.Second
	defaultLinger      = 5 * time.Second
	defaultName        = "default"

	defaultMaxEventSize = 1 << 20
	defaultHistoryBytes = 64 << 20

	maxBufferSize = 1 << 20
	mostEventSize = 512 << 20 // what Redis accepts unless it is set otherwise
)

// Option changes a setting of NewRedisNotificationSystem.
type Option func(*settings)

type settings struct {
	bufferSize    int
	keyPrefix     string
	pingTimeout   time.Duration
	history       int
	historyTTL    time.Duration
	historyBytes  int64
	maxEventSize  int
	channelPrefix string
	heartbeat     time.Duration
	linger        time.Duration
	policy        Policy
	logger        *zap.Logger
	name          string
	tracing       trace.TracerProvider

	longestPause time.Duration // before the next connection is made; only tests change it
}

// WithBufferSize sets how many messages a subscription buffers before its overflow policy acts, overriding the
// default of 100. 0 means the default, 1 to 1048576 are allowed. The room is taken from memory at once.
func WithBufferSize(messages int) Option {
	return func(s *settings) { s.bufferSize = messages }
}

// WithKeyPrefix sets what the keys of the journal start with, overriding the default of "cache:". Systems that
// are to see each other's events with recovery need the same prefix, and the same database. Channel names carry no
// prefix. It must not begin a hash tag with "{}". An empty prefix means none.
func WithKeyPrefix(prefix string) Option {
	return func(s *settings) { s.keyPrefix = prefix }
}

// WithPingTimeout sets how long Subscribe waits for Redis to confirm, overriding the default of 1s. 0 means the
// default; it must not be negative. HealthCheck uses it as well.
func WithPingTimeout(d time.Duration) Option {
	return func(s *settings) { s.pingTimeout = d }
}

// WithHistory sets how many events the journal keeps and how long it outlives the last event, overriding the
// defaults of 10000 and 1h. A size of 0 switches history off: plain publish and subscribe, where a cut connection
// means a Gap; it must not be negative (the -1 of a config.Config becomes 0 on the way here). A ttl of 0 means the
// default, at least 1ms is allowed. Redis trims in blocks, and the expiry is not moved with each event: a journal may
// hold some hundred events more and live for a sixtieth longer.
//
// All systems with the same key prefix need the same size and ttl. They write one journal, each trims it to its own
// size, and a system that finds it smaller, or gone earlier, than its own settings explain may take a loss for none.
func WithHistory(size int, ttl time.Duration) Option {
	return func(s *settings) { s.history, s.historyTTL = size, ttl }
}

// WithHistoryBytes sets how many bytes of events the journal keeps, overriding the default of 64 MiB; the events that
// count are the last ones that fit, besides the number that WithHistory sets. An event counts its JSON, the names of its channels and
// about 100 bytes more. 0 means the default; it must not be negative. The last event is kept even if it is larger. A
// journal of which Redis evicted the state that is kept beside it takes up to twice as much until as many bytes have been
// published.
//
// All systems with the same key prefix and channel prefix need the same number, as with WithHistory.
func WithHistoryBytes(bytes int64) Option {
	return func(s *settings) { s.historyBytes = bytes }
}

// WithMaxEventSize sets how large an event may be that is published, overriding the default of 1 MiB: its JSON and the
// names of its channels in bytes. A larger one is refused with an *ArgumentError before anything is sent. 0 means the
// default, 1 byte to 512 MiB are allowed.
//
// Redis cuts off a connection that listens if more than 32 MB wait for it (its client-output-buffer-limit), and an event
// is sent once for each of its channels. So with more than some MB, that setting of Redis has to be raised, too.
func WithMaxEventSize(bytes int) Option {
	return func(s *settings) { s.maxEventSize = bytes }
}

// WithChannelPrefix sets what stands before the name of every channel in Redis, overriding the default of none. Redis does
// not divide channels by database, so environments that share a server need it; each prefix has a journal of its own. It is
// an *ArgumentError if it contains a character that globs give a meaning to.
func WithChannelPrefix(prefix string) Option {
	return func(s *settings) { s.channelPrefix = prefix }
}

// WithHeartbeat sets how often a heartbeat is sent through Redis, overriding the default of 3s. A connection on
// which no heartbeat came back for three intervals is replaced. 0 means the default, at least 10ms is allowed.
func WithHeartbeat(interval time.Duration) Option {
	return func(s *settings) { s.heartbeat = interval }
}

// WithUnsubscribeDelay sets how long a name stays subscribed after its last subscription was closed, overriding
// the default of 5s, so that a quick return costs nothing. Negative means not at all, 0 the default.
func WithUnsubscribeDelay(d time.Duration) Option {
	return func(s *settings) { s.linger = d }
}

// WithPolicy sets what happens when the buffer of a subscription is full, overriding the default of PolicyReplay with
// history and PolicyDropNewest without. It holds for all subscriptions of the system: who needs two policies makes two
// systems.
func WithPolicy(p Policy) Option {
	return func(s *settings) { s.policy = p }
}

// WithLogger sets where reconnects, gaps and failed handlers are logged. Nil, the default, logs nothing.
func WithLogger(logger *zap.Logger) Option {
	return func(s *settings) { s.logger = logger }
}

// WithName sets the value of the metrics' label "cache", overriding the default of "default".
func WithName(name string) Option {
	return func(s *settings) { s.name = name }
}

// newSettings applies the options, then the defaults, and refuses what makes no sense.
func newSettings(opts []Option) (settings, error) {
	s := settings{history: defaultHistory, keyPrefix: defaultKeyPrefix, longestPause: maxRecoveryPause}
	for _, opt := range opts {
		if opt == nil {
			return s, &ArgumentError{Argument: "opts", Reason: "contains nil"}
		}
		opt(&s)
	}
	fill(&s.bufferSize, defaultBufferSize)
	fill(&s.pingTimeout, defaultPingTimeout)
	fill(&s.historyTTL, defaultHistoryTTL)
	fill(&s.historyBytes, defaultHistoryBytes)
	fill(&s.maxEventSize, defaultMaxEventSize)
	fill(&s.heartbeat, defaultHeartbeat)
	fill(&s.linger, defaultLinger)
	fill(&s.name, defaultName)
	if s.linger < 0 {
		s.linger = 0
	}
	if s.logger == nil {
		s.logger = zap.NewNop()
	}
	if s.policy == "" {
		s.policy = PolicyReplay
	}
	if s.history == 0 && s.policy == PolicyReplay {
		s.policy = PolicyDropNewest
	}
	err := s.validate()
	return s, err
}

// fill replaces a zero value by its default.
func fill[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

func (s *settings) validate() error {
	refuse := func(argument, format string, args ...any) error {
		return &ArgumentError{Argument: argument, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case s.bufferSize < 1 || s.bufferSize > maxBufferSize:
		return refuse("WithBufferSize", "%d is not between 1 and %d", s.bufferSize, maxBufferSize)
	case emptyTag(s.keyPrefix):
		return refuse("WithKeyPrefix", `contains the empty hash tag "{}"`)
	case s.pingTimeout < 0:
		return refuse("WithPingTimeout", "%v is negative", s.pingTimeout)
	case s.history < 0:
		return refuse("WithHistory", "size %d is negative", s.history)
	case s.historyTTL < time.Millisecond:
		return refuse("WithHistory", "ttl %v is below 1ms", s.historyTTL)
	case s.historyBytes < 0:
		return refuse("WithHistoryBytes", "%d is negative", s.historyBytes)
	case s.maxEventSize < 0 || s.maxEventSize > mostEventSize:
		return refuse("WithMaxEventSize", "%d is not between 1 and %d", s.maxEventSize, mostEventSize)
	case isGlob(s.channelPrefix):
		return refuse("WithChannelPrefix", "%q contains one of %s, which globs give a meaning to", s.channelPrefix, globBytes)
	case !utf8.ValidString(s.channelPrefix):
		return refuse("WithChannelPrefix", "%q is not UTF-8", s.channelPrefix)
	case s.reservesAll():
		return refuse("WithChannelPrefix", "%q gives channels that only this module uses", s.channelPrefix)
	case s.heartbeat < 10*time.Millisecond:
		return refuse("WithHeartbeat", "%v is below 10ms", s.heartbeat)
	}
	switch s.policy {
	case PolicyReplay, PolicyDropOldest, PolicyDropNewest, PolicyDisconnect:
		return nil
	default:
		return refuse("WithPolicy", "%q is no policy", s.policy)
	}
}

// emptyTag reports whether the first brace of a prefix, the only one Redis looks at, begins a hash tag without
// content. The keys would then be on different nodes of a cluster.
func emptyTag(prefix string) bool {
	open := strings.IndexByte(prefix, '{')
	return open >= 0 && strings.HasPrefix(prefix[open:], "{}")
}

func (s *settings) keys(database int) journal.Keys {
	return journal.NewKeys(s.keyPrefix, s.channelPrefix, database)
}

// reservesAll reports whether nothing may be published under the channel prefix.
func (s *settings) reservesAll() bool {
	keys := s.keys(0)
	return keys.Reserved(s.channelPrefix)
}

// deadAfter is how many heartbeat intervals may pass without a heartbeat coming back.
const deadAfter = 3

// deadline is how long that is.
func (s *settings) deadline() time.Duration { return deadAfter * s.heartbeat }

// databaseOf returns the number of the database that a client uses. A cluster has only one.
func databaseOf(client redis.UniversalClient) int {
	if c, ok := redisx.Unwrap[*redis.Client](client); ok {
		return c.Options().DB
	}
	return 0
}
