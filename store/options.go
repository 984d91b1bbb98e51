package store

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/arguments"
	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/server"
)

const (
	defaultTimeout      = 250 * time.Millisecond
	defaultStateTimeout = 2 * time.Second
	defaultMaxSize      = 1 << 20
	// largestSize is below what Redis stores in one string, with room for the line before the value.
	largestSize = 512<<20 - 64<<10
	// maxTTL keeps times of the server's clock below 2^53 microseconds.
	maxTTL = 100 * 365 * 24 * time.Hour
)

// Option changes how a Store, a Cache, a State or a single call works. Each option says where it may be given; given
// elsewhere it is refused with an error matching ErrInvalidArgument that names it.
type Option struct {
	name  string
	scope scope
	set   func(s *settings) error
}

// scope is where an option may be given.
type scope uint16

const (
	inNew scope = 1 << iota
	inCache
	inState
	inLoad     // GetOrLoad, GetOrLoadItem
	inLoadMany // LoadMany, which has the options of inLoad
	inSet
	inCreate
	inPut
	inUpdate
	inDelete // of State
)

// String returns what the documentation calls a scope.
func (s scope) String() string {
	return map[scope]string{
		inNew: "New", inCache: "NewCache", inState: "NewState", inLoad: "GetOrLoad", inLoadMany: "LoadMany", inSet: "Set",
		inCreate: "Create", inPut: "Put", inUpdate: "Update", inDelete: "Delete",
	}[s]
}

// settings is what options add up to: those of a Store, then of a Cache or State, then of a call.
type settings struct {
	store storeSettings
	coder coder
	group func(key string) string // nil for none
	ttl   time.Duration           // 0 for none
	// ttlGiven says that ttl was set, by the State or by the call.
	ttlGiven bool
	sliding  bool
	tags     []string // sorted, without repetitions
	write    writeSettings
	cache    cacheSettings
}

// storeSettings are those of the whole Store.
type storeSettings struct {
	prefix       string
	name         string
	logger       *zap.Logger
	tracing      trace.TracerProvider
	timeout      time.Duration
	stateTimeout time.Duration
	beforeLoad   func(ctx context.Context, cache string) error // nil for none
	near         nearSettings                                  // of Caches that have none of their own
}

// writeSettings are those of one write.
type writeSettings struct {
	version int64 // server.Any, or what must be there
	fence   int64 // 0 for none
}

func defaults() settings {
	return settings{
		store: storeSettings{
			prefix: "cache:", name: "default", logger: zap.NewNop(), timeout: defaultTimeout,
			stateTimeout: defaultStateTimeout,
		},
		coder: coder{codec: JSON{}, maxSize: defaultMaxSize},
		write: writeSettings{version: server.Any},
		cache: cacheDefaults(),
	}
}

// apply applies options that were given to a function.
func (s *settings) apply(where scope, opts []Option) error {
	allowed := where
	if where == inLoadMany {
		allowed |= inLoad
	}
	for i, o := range opts {
		switch {
		case o.set == nil:
			return &ArgumentError{Argument: fmt.Sprintf("opts[%d]", i), Reason: "is a zero Option"}
		case o.scope&allowed == 0:
			return &ArgumentError{Argument: o.name, Reason: "is no option of " + where.String()}
		}
		if err := o.set(s); err != nil {
			return err
		}
	}
	return nil
}

// option makes an Option whose value has been checked already: err says what is wrong with it, or is nil.
func option(name string, where scope, err error, set func(s *settings)) Option {
	return Option{name, where, func(s *settings) error {
		if err == nil {
			set(s)
		}
		return err
	}}
}

// refuse returns an error about an option if it is wrong.
func refuse(wrong bool, name, reason string) error {
	if !wrong {
		return nil
	}
	return &ArgumentError{Argument: name, Reason: reason}
}

// checkDuration refuses what is too short for the resolution of Redis, or too long for its numbers. 0 passes.
func checkDuration(name string, d time.Duration) error {
	switch {
	case d < 0:
		return &ArgumentError{Argument: name, Reason: "is negative"}
	case d > 0 && d < time.Millisecond:
		return &ArgumentError{Argument: name, Reason: "is less than 1ms"}
	case d > maxTTL:
		return &ArgumentError{Argument: name, Reason: "is more than 100 years"}
	}
	return nil
}

// WithKeyPrefix sets what the names of all keys and channels begin with, overriding the default of "cache:". A brace in it
// must begin a hash tag that is not empty; all keys are on one node of a Cluster then. For [New].
func WithKeyPrefix(prefix string) Option {
	open := strings.IndexByte(prefix, '{')
	tag := open < 0 || strings.IndexByte(prefix[open:], '}') > 1
	return option("WithKeyPrefix", inNew, refuse(!tag, "WithKeyPrefix", `contains "{" that begins no hash tag`),
		func(s *settings) { s.store.prefix = prefix })
}

// WithName sets the value of the label "cache" of all metrics, overriding the default of "default". It must be valid UTF-8.
// For [New].
func WithName(name string) Option {
	return option("WithName", inNew, refuse(!utf8.ValidString(name), "WithName", "is not valid UTF-8"), func(s *settings) { s.store.name = name })
}

// WithLogger sets the logger for what goes wrong in the background. The default, also for nil, is to log nothing. For
// [New].
func WithLogger(logger *zap.Logger) Option {
	return option("WithLogger", inNew, nil, func(s *settings) {
		if logger != nil {
			s.store.logger = logger
		}
	})
}

// WithTracerProvider traces calls: spans such as store.get and store.put with the attributes store.name and
// store.outcome, never a key. The default, also for nil, is not to. For [New].
func WithTracerProvider(tp trace.TracerProvider) Option {
	return option("WithTracerProvider", inNew, nil, func(s *settings) { s.store.tracing = tp })
}

// WithTimeout sets how long Redis may be silent while a Cache waits for it, overriding the default of 250ms: a call gives up, and
// goes on without Redis, when the server that it asks has answered nobody in this process for so long, and after eight times that,
// 2s by default, in any case. So what waits its turn behind many other calls does not fail, and a single connection that is half
// open beside good ones costs a call the longer time. Where a call asks several times, that counts each time. It must be positive.
// For [New].
func WithTimeout(d time.Duration) Option {
	return option("WithTimeout", inNew, refuse(d <= 0, "WithTimeout", "is not positive"),
		func(s *settings) { s.store.timeout = d })
}

// WithStateTimeout sets how long a State waits for Redis, each time it does, repetitions included, overriding the default
// of 2s. It must be positive and at most a minute. For [New].
func WithStateTimeout(d time.Duration) Option {
	return option("WithStateTimeout", inNew,
		refuse(d <= 0 || d > time.Minute, "WithStateTimeout", "is not positive, or is more than a minute"),
		func(s *settings) { s.store.stateTimeout = d })
}

// WithTTL sets how long a value lasts. A State's default, also for 0, is for always; a Cache's is 5min. Fractions of a
// millisecond are dropped; it must be at least 1ms and at most 100 years. For [NewCache], [NewState], and the calls that
// write, where it overrides that.
func WithTTL(d time.Duration) Option {
	return option("WithTTL", inCache|inState|inLoad|inSet|inCreate|inPut|inUpdate, checkDuration("WithTTL", d),
		func(s *settings) { s.ttl, s.ttlGiven = d.Truncate(time.Millisecond), true })
}

// WithSliding makes a read that finds less than half of a value's TTL left extend it to the full TTL: the one that the value was
// last written or touched with. Reads are [State.Get], [Cache.Get], [Cache.GetMany], loads that find a value, and what returns
// an [Item] as they do. They do not wait for that, and it does not matter if it fails: the next read tries again. Of the values
// that one call reads, 64 are extended at a time, the others by later reads. For how long [WithStale] keeps the value beyond its
// TTL stays as it is. A State needs WithTTL for it. For [NewCache] and [NewState].
func WithSliding() Option {
	return option("WithSliding", inCache|inState, nil, func(s *settings) { s.sliding = true })
}

// WithCodec sets how values are encoded, overriding the default of [JSON]. Values that another codec wrote are ErrCodec.
// For [NewCache] and [NewState].
func WithCodec(c Codec) Option {
	return option("WithCodec", inCache|inState, checkCodec(c), func(s *settings) { s.coder.codec = c })
}

func checkCodec(c Codec) error {
	if arguments.IsNil(c) {
		return &ArgumentError{Argument: "WithCodec", Reason: "is nil"}
	}
	l := c.Letter()
	letter := '0' <= l && l <= '9' || 'A' <= l && l <= 'Z' || 'a' <= l && l <= 'z'
	return refuse(!letter, "WithCodec", "has a Letter that is neither a letter nor a digit")
}

// WithCompression compresses values that are encoded in at least minSize bytes, if that makes them smaller, with S2. 1024
// is a good choice; the default is not to compress. What is compressed can be read without this option. For [NewCache]
// and [NewState].
func WithCompression(minSize int) Option {
	return option("WithCompression", inCache|inState, refuse(minSize <= 0, "WithCompression", "is not positive"),
		func(s *settings) { s.coder.compress = minSize })
}

// WithMaxSize sets how many bytes an encoded value may have before it is compressed, overriding the default of 1 MiB.
// Larger ones are ErrTooLarge, also when they are read; a Cache returns a larger one that was loaded without storing it.
// It must be positive and less than what Redis can store. For [NewCache] and [NewState].
func WithMaxSize(bytes int) Option {
	return option("WithMaxSize", inCache|inState,
		refuse(bytes <= 0 || bytes > largestSize, "WithMaxSize", "is not positive, or is more than Redis can store"),
		func(s *settings) { s.coder.maxSize = bytes })
}

// WithGroup puts keys for which f returns the same on the same node of a Cluster. f must always return the same for a key,
// or its value is not found again; it must be safe for concurrent use. [State.List] may call it with keys that something
// else has written, and takes a panic for the answer that they are not of this State. For [NewCache] and [NewState].
func WithGroup(f func(key string) string) Option {
	return option("WithGroup", inCache|inState, refuse(f == nil, "WithGroup", "is nil"),
		func(s *settings) { s.group = f })
}

// IfVersion makes a write fail with a [*ConflictError] unless the value is in this version, which Get has returned or a
// write; 0 stands for no value, which may be so again: it is no protection against a write that the network delivers late.
// For [State.Put] and [State.Delete].
func IfVersion(v Version) Option {
	return option("IfVersion", inPut|inDelete, refuse(v < 0, "IfVersion", "is negative"),
		func(s *settings) { s.write.version = int64(v) })
}

// WithFence makes a write fail with ErrFenced if one with a larger fencing token was there before: pass the token of the
// lock that protects the value. It must be positive and below 2^53, as those of package lock are. For [State.Create],
// [State.Put], [State.Update] and [State.Delete].
func WithFence(token int64) Option {
	return option("WithFence", inCreate|inPut|inUpdate|inDelete,
		refuse(token <= 0 || token > entry.MaxNumber, "WithFence", "is not positive, or is 2^53 or more"),
		func(s *settings) { s.write.fence = token })
}
