package client

import (
	"crypto/tls"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// faultySessions calls a function in place of keeping a session.
type faultySessions struct {
	tls.ClientSessionCache

	put func()
}

func (c faultySessions) Put(string, *tls.ClientSessionState) { c.put() }

// TestFaultsOfASessionCache: sessions come with replies, some of which go-redis reads in goroutines of its own.
func TestFaultsOfASessionCache(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithTLS())
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	all := faults()
	all["does not return"] = func() { <-release }
	for name, fault := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var put atomic.Int32
			settings := srv.TLSConfig()
			settings.ClientSessionCache = faultySessions{tls.NewLRUClientSessionCache(0), func() {
				put.Add(1)
				fault()
			}}
			r := ready(t, &config.Config{URL: srv.URL(), TLSConfig: settings})
			works(t, r)
			sub := r.Subscribe(t.Context(), "ch")
			_, err := sub.Receive(within(t, patience))
			require.NoError(t, err)
			require.NoError(t, sub.Close())
			eventually(t, func() bool { return put.Load() > 0 }, "there are sessions to keep")
		})
	}
}

// A second connection resumes the session of the first one.
func TestSessionsAreKept(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithTLS())
	settings := srv.TLSConfig()
	settings.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	var resumed atomic.Bool
	settings.VerifyConnection = func(state tls.ConnectionState) error {
		if state.DidResume {
			resumed.Store(true)
		}
		return nil
	}
	r := ready(t, &config.Config{URL: srv.URL(), TLSConfig: settings})
	eventually(t, func() bool {
		conn, err := r.main.dial(t.Context(), "tcp", srv.Addr())
		return err == nil && conn.Close() == nil && resumed.Load()
	}, "a session is resumed")
}

// A session with which a handshake failed is not used again, although another one is still being kept.
func TestSessionIsRemovedWhileAnotherIsKept(t *testing.T) {
	t.Parallel()
	inner := tls.NewLRUClientSessionCache(0)
	held, release := make(chan struct{}), make(chan struct{})
	s := &sessions{ClientSessionCache: faultySessions{inner, func() {
		held <- struct{}{}
		<-release
	}}}
	inner.Put("a", new(tls.ClientSessionState))
	_, ok := s.Get("a")
	require.True(t, ok)
	s.Put("b", new(tls.ClientSessionState))
	<-held
	s.Put("a", nil)
	_, ok = s.Get("a")
	require.False(t, ok)
	close(release)
	eventually(t, func() bool { return !s.busy.Load() }, "the other one is kept")
	_, ok = s.Get("a")
	require.False(t, ok)
	s.Put("a", new(tls.ClientSessionState))
	<-held
	_, ok = s.Get("a")
	require.True(t, ok, "a new session takes its place")
}
