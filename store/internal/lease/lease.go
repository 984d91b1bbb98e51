package lease

import (
	"context"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store/internal/entry"
)

const (
	// TTL is how long a lease lasts unless it is renewed.
	TTL = 2 * time.Second
	// maxCarried is up to how many bytes a message carries what was stored.
	maxCarried = 4 << 10
)

// Runner is how servers are asked.
type Runner interface {
	// Run runs a script, whose first key decides where, together with those of other callers, and again after a failure that
	// may pass.
	Run(ctx context.Context, script *redisx.Script, keys []string, args func(again bool) []any) (reply any, lost bool, err error)
	// Ask calls f, which asks the server that has a key, unless that does not answer; its error is that of f then. The context
	// of f ends when the server takes too long.
	Ask(ctx context.Context, key string, f func(ctx context.Context) error) error
}

// Settings say how Leases work. All are required.
type Settings struct {
	Client redis.UniversalClient
	Runner Runner
	// Timeout bounds how long it takes to connect, and to renew leases.
	Timeout time.Duration
	// Prefix begins the name of the inbox.
	Prefix string
	// Channel is that of near caches.
	Channel string
	// Closing ends the work in the background.
	Closing context.Context //nolint:containedctx // nobody's call
	// Go starts a goroutine.
	Go  func(func())
	Log *zap.Logger
}

// Leases are those of one process. They are safe for concurrent use; make them with [New].
type Leases struct {
	set      Settings
	cluster  *redis.ClusterClient // nil if there is none
	scripts  scripts
	inbox    *box
	renewals *renewals
}

// New returns Leases. Nothing is sent or started until somebody asks.
func New(set Settings) *Leases {
	l := &Leases{set: set, scripts: newScripts()}
	l.inbox = newBox(set, set.Prefix+"store:inbox:"+entry.NewID())
	l.cluster, _ = redisx.Unwrap[*redis.ClusterClient](set.Client)
	l.renewals = &renewals{leases: l, held: make(map[*Lease]time.Time)}
	return l
}

// Keys are those of a value and of the lease on it, on the same node of a Cluster.
type Keys struct {
	Value, Lease string
	// Codec is the letter of the codec that can read the value.
	Codec byte
}

// call returns a script about both.
func (k Keys) call(script *redisx.Script, args ...any) call {
	return call{script, []string{k.Value, k.Lease}, args}
}

// Outcome is what came of asking for a lease.
type Outcome uint8

const (
	// Unknown means that Redis did not say. Err says why.
	Unknown Outcome = iota
	// Fresh means that there is a value.
	Fresh
	// Granted means that the caller is to load it.
	Granted
	// Refused means that the holder of the lease has failed: just now, or a moment ago.
	Refused
	// Busy means that somebody else loads.
	Busy
	// Foreign means that something else has written one of the keys.
	Foreign
)

// Answer is what came of asking for a lease.
type Answer struct {
	Outcome Outcome
	// Raw is an entry that is fresh by the server's clock, which is Now, in microseconds.
	Raw []byte
	Now int64
	// Lease is what was granted. The caller has to end it, by Fill or Fail.
	Lease *Lease
	// Failure says why the holder has failed.
	Failure Failure
	// Left is for how long nobody is to load after a failure, or how long a busy lease lasts unless it is renewed.
	Left time.Duration
	// AsOf is a time after which the answer was true, by the clock of this process; zero if that does not matter.
	AsOf time.Time
	Err  error

	holder string // of a busy lease
}

// Failure is why a load has no value, as far as other processes learn it.
type Failure struct {
	Class   Class
	Message string
}

// Class is a kind of failure.
type Class string

const (
	// Load means that the loader has returned an error.
	Load Class = "load"
	// Timeout means that it took too long.
	Timeout Class = "timeout"
	// Panic means that it panicked.
	Panic Class = "panic"
	// Absent means that there is nothing to load, which is no error.
	Absent Class = "absent"
	// Gone means that its holder has given up, and that others may try.
	Gone Class = "gone"
	// Unstorable means that what is loaded cannot or must not be stored: everybody has to load it by themselves.
	Unstorable Class = "unstorable"
)

func (f Failure) String() string { return string(f.Class) + " " + f.Message }

func parseFailure(text string) Failure {
	class, message, _ := strings.Cut(text, " ")
	return Failure{Class(class), message}
}

// Lease is the right to load one value.
type Lease struct {
	leases *Leases
	keys   Keys
	token  string
}

// Value is what a holder stores.
type Value struct {
	Kind               entry.Kind // Value or Absent
	Codec, Compression byte
	Payload            []byte // must not be changed any more
	Tags               string
	// TTL is how long the value is fresh, 0 for always; Keep is how long the key lasts beyond that.
	TTL, Keep time.Duration
}

// Result is what came of storing a value.
type Result struct {
	// Stored says that the value was stored, with this Version, at a time of the server's clock in microseconds.
	Stored       bool
	Version, Now int64
	// Foreign says that something else has written the key. Otherwise a value was not stored because the lease was over.
	Foreign bool
	// Err says why it is not known.
	Err error
}

// Fill stores a value and ends the lease.
func (h *Lease) Fill(ctx context.Context, v Value) Result {
	defer h.Abandon() // only then: it must last until Redis has got the value
	reply, err := h.leases.run(ctx, h.filling(v))
	return filled(reply, err)
}

// FillMany stores values and ends their leases, in one round trip to each master, or in as many as it takes to send not too much
// at a time. Each lease has the value of the same index. It calls done with that and with what has become of the lease, as soon as
// it is known, maybe for several at once.
func (l *Leases) FillMany(ctx context.Context, leases []*Lease, values []Value, done func(i int, r Result)) {
	calls := make([]call, len(leases))
	for i, h := range leases {
		calls[i] = h.filling(values[i])
	}
	l.runMany(ctx, l.set.Runner.Ask, calls, func(i int, reply []any, err error) {
		leases[i].Abandon()
		done(i, filled(reply, err))
	})
}

func (h *Lease) filling(v Value) call {
	tags := v.Tags
	if tags == "" {
		tags = string(entry.Plain)
	}
	return h.keys.call(h.leases.scripts.fill,
		h.token, string(v.Kind), string([]byte{v.Codec, v.Compression}), v.Payload, v.TTL.Milliseconds(), v.Keep.Milliseconds(),
		tags, maxCarried, string(h.keys.Codec), h.leases.set.Channel,
	)
}

func filled(reply []any, err error) Result {
	if err != nil {
		return Result{Err: err}
	}
	switch {
	case reply[0] == "written" && len(reply) == 3:
		version, ok1 := reply[1].(int64)
		now, ok2 := reply[2].(int64)
		if ok1 && ok2 {
			return Result{Stored: true, Version: version, Now: now}
		}
	case reply[0] == "refused":
		return Result{}
	case reply[0] == "foreign":
		return Result{Foreign: true}
	}
	return Result{Err: errUnexpected}
}

// Fail ends the lease without a value. For the pause nobody gets another one, and who asks is given the failure. It reports
// whether the lease had lasted until then, as far as is known.
func (h *Lease) Fail(ctx context.Context, f Failure, pause time.Duration) bool {
	defer h.Abandon()
	reply, err := h.leases.run(ctx, h.failing(f, pause))
	return err == nil && reply[0] == "ended"
}

// FailMany says that there is no value for several leases, and why, see Fail. It calls done as FillMany does, with whether the lease
// had lasted until then, or an error if that is not known.
func (l *Leases) FailMany(
	ctx context.Context, leases []*Lease, failures []Failure, pauses []time.Duration, done func(i int, ended bool, err error),
) {
	calls := make([]call, len(leases))
	for i, h := range leases {
		calls[i] = h.failing(failures[i], pauses[i])
	}
	l.runMany(ctx, l.set.Runner.Ask, calls, func(i int, reply []any, err error) {
		leases[i].Abandon()
		done(i, err == nil && reply[0] == "ended", err)
	})
}

// Abandon ends the renewal of the lease, which then runs out by itself.
func (h *Lease) Abandon() { h.leases.renewals.drop(h) }

func (h *Lease) failing(f Failure, pause time.Duration) call {
	absent := "0"
	if f.Class == Absent {
		absent = "1"
	}
	return h.keys.call(h.leases.scripts.fail,
		h.token, f.String(), pause.Milliseconds(), absent, string(h.keys.Codec), h.leases.set.Channel,
	)
}
