package group

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"

	"github.com/compozy/cache/internal/faultproxy"
)

// silent returns a group with a member whose client has no time-outs, and the proxy between them, which does not let through
// what the server says any more, as on connections that are half open. The member waits for the reply to a turn.
func silent(t *testing.T) (b *bundle, proxy *faultproxy.Proxy, stop func()) {
	t.Helper()
	b = setup(t)
	proxy = faultproxy.New(t, b.server.Addr())
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ReadTimeout: -1, WriteTimeout: -1})
	t.Cleanup(func() { _ = client.Close() })
	begun, finish := make(chan struct{}), make(chan struct{})
	b.set(func(context.Context, Event) Result {
		close(begun)
		<-finish
		return Result{}
	})
	stop = b.run(t, func(s *Settings) { s.Client = client })
	b.append(t, "k", 1)
	<-begun
	b.set(nil)
	proxy.SwallowToClient(true)
	close(finish)
	b.done(t, 1)
	sent := proxy.Requests()
	b.eventually(t, "the leader asks nothing", func() bool { return proxy.Requests() > sent }) // by then the reply is swallowed
	return b, proxy, stop
}

func TestSilentConnectionsOfClientsWithoutTimeouts(t *testing.T) {
	t.Parallel()
	b, proxy, _ := silent(t)
	proxy.SwallowToClient(false) // what was swallowed stays lost
	b.append(t, "k", 1)
	b.done(t, 2)
	assert.Empty(t, b.reasons())
}

func TestMembersWithoutTimeoutsStop(t *testing.T) {
	t.Parallel()
	_, _, stop := silent(t)
	stop()
}
