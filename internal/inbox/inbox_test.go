package inbox_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/inbox"
	"github.com/compozy/cache/internal/redistest"
)

func TestMain(m *testing.M) { redistest.VerifyTestMain(m) }

const patience = 20 * time.Second

// recorder notes what an inbox says.
type recorder struct {
	heard chan string
	up    chan struct{}
	down  chan error
}

func (r recorder) Hear(payload string) { r.heard <- payload }
func (r recorder) Up()                 { r.up <- struct{}{} }
func (r recorder) Down(err error)      { r.down <- err }

// setup returns an inbox "in" on a server behind a proxy.
func setup(t *testing.T) (recorder, *redis.Client, *faultproxy.Proxy, *redistest.Server) {
	t.Helper()
	server := redistest.Start(t)
	proxy := faultproxy.New(t, server.Addr())
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	r := recorder{make(chan string, 100), make(chan struct{}, 100), make(chan error, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		inbox.Listen(ctx, client, "in", time.Second, r)
	}()
	t.Cleanup(func() {
		cancel()
		receive(t, done)
	})
	receive(t, r.up)
	return r, server.Client(t), proxy, server
}

func receive[T any](t *testing.T, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		require.FailNow(t, "waited in vain")
	}
	return v
}

func TestMessagesArrive(t *testing.T) {
	t.Parallel()
	r, sender, _, _ := setup(t)
	require.NoError(t, sender.Publish(t.Context(), "in", "a b\nc").Err())
	require.Equal(t, "a b\nc", receive(t, r.heard))
}

func TestInboxConnectsAgain(t *testing.T) {
	t.Parallel()
	r, sender, proxy, server := setup(t)
	proxy.Cut()
	require.Error(t, receive(t, r.down))
	receive(t, r.up)
	require.NoError(t, sender.Publish(t.Context(), "in", "x").Err())
	require.Equal(t, "x", receive(t, r.heard))

	server.Kill()
	require.Error(t, receive(t, r.down))
	require.Error(t, receive(t, r.down), "each time that connecting fails")
	server.Restart()
	receive(t, r.up)
}

func TestHalfOpenConnectionIsNoticed(t *testing.T) {
	t.Parallel()
	r, _, proxy, _ := setup(t)
	proxy.SwallowToClient(true)
	require.Error(t, receive(t, r.down))
	proxy.SwallowToClient(false)
	receive(t, r.up)
}
