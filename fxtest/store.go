package fxtest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/store"
)

// Store is a real store.Store on an embedded server of its own, so that what it promises holds in tests as well. A test does
// to it what happens in production: Expire, Fail, FailLoads. NewStore makes one.
type Store struct {
	*store.Store

	// Redis is a client of the server, for a look at what is stored.
	Redis *client.Redis
	// Server is where it is stored.
	Server *embedded.Server

	mu    sync.Mutex // guards loads
	loads error      // what loaders fail with, or nil
}

// NewStore returns a store that is empty, and closes it and its server when the test ends. opts are those of store.New; a
// store.WithBeforeLoad among them is called as long as FailLoads does not make loads fail. Make caches and states on it as a
// program does:
//
//	s := cachetest.NewStore(t)
//	users, err := store.NewCache[User](s.Store, "users")
//
// In an application it takes the place of the real one by fx.Replace(s.Store). It can be made inside a testing/synctest
// bubble; time then passes there by a sleep.
func NewStore(t testing.TB, opts ...store.Option) *Store {
	t.Helper()
	s := &Store{Server: embedded.New()}
	t.Cleanup(func() { _ = s.Server.Close() })
	var err error
	if s.Redis, err = client.NewRedis(t.Context(), s.Server.Config()); err != nil {
		t.Fatal("fxtest: connecting to the embedded server:", err)
	}
	t.Cleanup(func() { _ = s.Redis.Close() })
	if s.Store, err = store.New(s.Redis, append([]store.Option{store.WithBeforeLoad(s.beforeLoad)}, opts...)...); err != nil {
		t.Fatal("fxtest: making a store:", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		_ = s.Close(ctx) // what it may have to report is that the test ends with Redis unreachable, or a load under way
	})
	return s
}

// Expire lets d pass for the server: what lasts no longer is gone or, in a cache with store.WithStale, stale. Values that a
// near cache keeps in the process are not affected. In a testing/synctest bubble a sleep of d does the same to all.
func (s *Store) Expire(d time.Duration) { s.Server.FastForward(d) }

// Fail makes Redis unreachable until Fail(nil): calls fail with an error that matches store.ErrUnavailable, and caches do
// without Redis if they can. As in production a cache returns to Redis up to a second after that has come back.
func (s *Store) Fail(err error) { s.Server.Fail(err) }

// FailLoads makes all loads fail with err, without calling the loaders, until FailLoads(nil). A loader that runs goes on.
// As in production, after a failure nobody loads the same key for a second: see store.WithFailurePause.
func (s *Store) FailLoads(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads = err
}

func (s *Store) beforeLoad(context.Context, string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loads
}
