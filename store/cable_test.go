package store_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/store"
)

// cable leads to a server, and can be cut.
type cable struct {
	server *embedded.Server

	mu    sync.Mutex // guards what follows
	isCut bool
	conns []net.Conn
}

func (c *cable) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isCut {
		return nil, errors.New("cut")
	}
	conn, err := c.server.Dial(ctx, network, address)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isCut = false
}

// cabled runs f in a bubble, where hours cost nothing, with the Stores of what stands for two processes. The first one's cable can
// be cut.
func cabled(t *testing.T, f func(t *testing.T, a, b *store.Store, c *cable)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := embedded.New()
		c := &cable{server: server}
		client := func(dial func(ctx context.Context, network, address string) (net.Conn, error)) *redis.Client {
			return redis.NewClient(&redis.Options{
				ContextTimeoutEnabled: true, Dialer: dial, DialerRetries: 1,
				MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
			})
		}
		one, other := client(c.dial), client(server.Dial)
		a, b := must(store.New(one)), must(store.New(other))
		defer func() {
			require.NoError(t, a.Close(t.Context()))
			require.NoError(t, b.Close(t.Context()))
			_ = one.Close()
			_ = other.Close()
			_ = server.Close()
			time.Sleep(time.Minute) // in a bubble: a client may still be trying to dial in the background
		}()
		f(t, a, b, c)
	})
}
