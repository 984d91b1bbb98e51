package client

import (
	"crypto/tls"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// TestSessionsAreKept: a second connection resumes the session of the first one, without the application's cache.
func TestSessionsAreKept(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithTLS())
	settings := srv.TLSConfig()
	settings.ClientSessionCache = faultySessions{}
	var resumed atomic.Bool
	settings.VerifyConnection = func(state tls.ConnectionState) error {
		if state.DidResume {
			resumed.Store(true)
		}
		return nil
	}
	r := ready(t, &config.Config{URL: srv.URL(), TLSConfig: settings})
	works(t, r)
	sub := r.Subscribe(t.Context(), "ch")
	_, err := sub.Receive(within(t, patience))
	require.NoError(t, err)
	require.NoError(t, sub.Close())
	eventually(t, func() bool {
		conn, err := r.main.dial(t.Context(), "tcp", srv.Addr())
		return err == nil && conn.Close() == nil && resumed.Load()
	}, "a session is resumed")
}

// faultySessions panics whenever it is called.
type faultySessions struct{ tls.ClientSessionCache }

func (faultySessions) Get(string) (*tls.ClientSessionState, bool) { panic("called") }
func (faultySessions) Put(string, *tls.ClientSessionState)        { panic("called") }
