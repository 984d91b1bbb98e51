package store

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/internal/tasks"
	"github.com/compozy/cache/store/internal/near"
	"github.com/compozy/cache/store/internal/server"
)

// Store is what the Caches and States on one Redis share. It is safe for concurrent use. Make one with [New].
type Store struct{ *core } // nil if New did not make it

// core is what a Store consists of.
type core struct {
	set     storeSettings
	client  redis.UniversalClient
	server  *server.Redis
	gate    *tasks.Tasks
	metrics *metrics
	tracer  tracer
	shared  *shared // by Caches
	slides  slides

	mu      sync.Mutex        // guards what follows
	names   map[string]string // what the Caches and States are, by name
	tracker *near.Tracker     // nil until there is a near cache
}

// New makes a Store on client, to which it sends nothing yet. The client stays the caller's and must be open until Close
// has returned.
//
// It returns an error matching ErrInvalidArgument if an argument cannot be used. A *redis.Ring cannot.
func New(client redis.UniversalClient, opts ...Option) (*Store, error) {
	set := defaults()
	if err := set.apply(inNew, opts); err != nil {
		return nil, err
	}
	if redisx.IsNil(client) {
		return nil, &ArgumentError{Argument: "client", Reason: "is nil, or a client that no constructor made"}
	}
	if _, ok := redisx.Unwrap[*redis.Ring](client); ok {
		return nil, &ArgumentError{Argument: "client", Reason: "is a *redis.Ring, which moves keys to another server " +
			"when one seems down: versions and fences would be lost"}
	}
	c := &core{
		set: set.store, client: client, gate: tasks.New(), metrics: newMetrics(set.store.name),
		tracer: newTracer(set.store.tracing), names: make(map[string]string),
	}
	c.server = server.New(client, server.Settings{
		Timeout:  max(set.store.timeout, set.store.stateTimeout),
		Patience: min(set.store.timeout, set.store.stateTimeout), Go: c.gate.Go,
		Channel: near.Channel(set.store.prefix),
	})
	c.shared = newShared(c)
	return &Store{c}, nil
}

// ready returns why no call can succeed, if that is so.
func (s *Store) ready() error {
	if s == nil || s.core == nil {
		return &ArgumentError{Argument: "Store", Reason: "is nil or zero; New makes one"}
	}
	return nil
}

// register takes note of a Cache or State, as which kind says. Those of the same name share what they store, so a Cache
// and a State may not have the same.
func (s *Store) register(name, kind string) error {
	if err := s.ready(); err != nil {
		return err
	}
	if err := checkName(name); err != nil {
		return err
	}
	if s.gate.Closed() {
		return ErrClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if other, ok := s.names[name]; ok && other != kind {
		return &ArgumentError{Argument: "name", Reason: fmt.Sprintf("%q is that of a %s already", name, other)}
	}
	s.names[name] = kind
	return nil
}

// HealthCheck reports whether Redis answers, within the time of [WithStateTimeout]. It returns an error matching ErrUnavailable
// if not, that of ctx if it ends first, or ErrClosed. Safe for concurrent use.
func (s *Store) HealthCheck(ctx context.Context) error {
	if err := s.ready(); err != nil {
		return err
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	if !s.gate.Begin() {
		return ErrClosed
	}
	defer s.gate.End()
	limited, cancel := context.WithTimeout(redisx.Background(ctx), s.set.stateTimeout)
	defer cancel()
	if err := s.server.Ping(limited); err != nil {
		if redisx.Ended(ctx) {
			return fmt.Errorf("store: health check: %w", ctx.Err())
		}
		return &UnavailableError{Op: "health check", Err: redisx.Discreet(err)}
	}
	return nil
}

// Close refuses new calls with ErrClosed, and returns when those that are under way have ended and no goroutine is left,
// or when ctx ends: then with an error matching that of ctx. It does not close the client. It may be called concurrently,
// and again; each call waits.
func (s *Store) Close(ctx context.Context) error {
	if err := s.ready(); err != nil {
		return err
	}
	if ctx == nil {
		return &ArgumentError{Argument: "ctx", Reason: "is nil"}
	}
	s.gate.Close()
	calls, helpers, tracker := s.gate.Wait(ctx), s.shared.close(ctx), s.closeTracker(ctx)
	if !calls || !helpers || tracker != nil {
		return fmt.Errorf("store: close: %w", ctx.Err())
	}
	return nil
}

// String names the Store for fmt, which would otherwise read what is changing. Safe for concurrent use.
func (s *Store) String() string {
	if s.ready() != nil {
		return "store that was never made"
	}
	return fmt.Sprintf("store %q", s.set.name)
}

// Format writes String, whatever the verb.
func (s *Store) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }
