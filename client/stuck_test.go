package client

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/auth"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// stuck is a credentials provider that does not return before it is released.
type stuck struct {
	asked, release chan struct{}
	unsubscribing  bool // that is what does not return
}

func newStuck(t *testing.T) *stuck {
	t.Helper()
	s := &stuck{asked: make(chan struct{}, 100), release: make(chan struct{})}
	t.Cleanup(func() { close(s.release) })
	return s
}

func (s *stuck) wait() {
	s.asked <- struct{}{}
	<-s.release
}

func (s *stuck) Subscribe(auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	if s.unsubscribing {
		s.asked <- struct{}{}
		return auth.NewBasicCredentials("default", "pw"), func() error { s.wait(); return nil }, nil
	}
	s.wait()
	return auth.NewBasicCredentials("", ""), func() error { return nil }, nil
}

// Without a bound each of these would wait for an hour.
func TestStuckCredentialsDoNotHoldClose(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithPassword("pw"))
	for name, set := range map[string]func(cfg *config.Config, s *stuck){
		"heeds its context": func(cfg *config.Config, s *stuck) {
			cfg.Credentials = func(ctx context.Context) (string, string, error) {
				s.asked <- struct{}{}
				<-ctx.Done()
				return "", "", ctx.Err()
			}
		},
		"ignores its context": func(cfg *config.Config, s *stuck) {
			cfg.Credentials = func(context.Context) (string, string, error) { s.wait(); return "", "", nil }
		},
		"provider":    func(cfg *config.Config, s *stuck) { cfg.CredentialsProvider = s },
		"unsubscribe": func(cfg *config.Config, s *stuck) { cfg.CredentialsProvider, s.unsubscribing = s, true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStuck(t)
			cfg := &config.Config{URL: "redis://" + srv.Addr(), DialTimeout: time.Hour, PoolSize: 3, MaxIdleConns: 3}
			set(cfg, s)
			r, err := New(cfg)
			require.NoError(t, err)
			r.Open() // which begins to open idle connections
			<-s.asked
			if s.unsubscribing {
				require.NoError(t, r.WaitReady(within(t, patience)))
			}
			closed := make(chan error, 1)
			go func() { closed <- r.Close() }()
			select {
			case err := <-closed:
				if s.unsubscribing {
					require.EqualError(t, err, "client: credentials provider does not end its subscription")
				} else {
					require.NoError(t, err)
				}
			case <-time.After(patience):
				t.Fatal("Close does not return")
			}
			if s.unsubscribing {
				return
			}
			started := make(chan error, 1)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				_, err := NewRedis(ctx, cfg)
				started <- err
			}()
			<-s.asked
			cancel()
			select {
			case err := <-started:
				require.ErrorIs(t, err, context.Canceled)
			case <-time.After(patience):
				t.Fatal("NewRedis does not return")
			}
		})
	}
}

func TestPanickingCredentials(t *testing.T) {
	t.Parallel()
	r := open(t, &config.Config{URL: redistest.Start(t).URL(), MaxRetries: -1, Credentials: func(context.Context) (string, string, error) {
		panic("hunter2")
	}})
	err := r.Ping(within(t, patience)).Err()
	require.ErrorIs(t, err, errCredentialsPanic)
	require.NotContains(t, err.Error(), "hunter2")
	require.ErrorContains(t, r.HealthCheck(t.Context()), ": the source of credentials panicked")
}

// The time to open a connection is that of the URL, for what is asked for meanwhile too.
func TestDialTimeoutOfURLBoundsCredentials(t *testing.T) {
	t.Parallel()
	s := newStuck(t)
	r := open(t, &config.Config{
		URL: redistest.Start(t).URL() + "?dial_timeout=10ms", DialTimeout: time.Hour, MaxRetries: -1,
		Credentials: func(context.Context) (string, string, error) { s.wait(); return "", "", nil },
	})
	failed := make(chan error, 1)
	go func() { failed <- r.Ping(t.Context()).Err() }()
	select {
	case err := <-failed:
		require.ErrorContains(t, err, "no credentials in time")
	case <-time.After(patience):
		t.Fatal("it still waits for credentials")
	}
}

// TestStuckCredentialsKeepFewGoroutines: each connection that is opened asks for them, and none gets an answer.
func TestStuckCredentialsKeepFewGoroutines(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var asked atomic.Int32
	g := newGate()
	ask := g.bounds(func(context.Context) (string, string, error) {
		asked.Add(1)
		<-release
		return "app", "pw", nil
	}, time.Millisecond)
	for range 5 * maxAsking {
		_, _, err := ask(t.Context())
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	require.EqualValues(t, maxAsking, asked.Load())
	close(release)
	require.Eventually(t, func() bool {
		_, password, err := ask(t.Context())
		return err == nil && password == "pw"
	}, patience, time.Millisecond)
}
