package near

import (
	"context"
	"net"
	"sync"
)

// dialer is how go-redis opens connections.
type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// conns are the connections of a session. Ending it breaks them: closing go-redis' clients would wait for a write that
// hangs.
type conns struct {
	mu   sync.Mutex // guards what follows
	open []net.Conn
	over bool
}

// once returns a dialer that opens one connection. What asks for another gets one that does not work: a session does not
// outlive its connections, and go-redis writes to stderr when a dial fails.
func (c *conns) once(inner dialer, remote *string) dialer {
	var used bool // guarded by mu
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c.mu.Lock()
		again := used || c.over
		used = true
		c.mu.Unlock()
		if again || ctx.Err() != nil {
			return broken(), nil
		}
		conn, err := inner(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.over {
			_ = conn.Close()
			return conn, nil
		}
		c.open = append(c.open, conn)
		*remote = conn.RemoteAddr().String()
		return conn, nil
	}
}

// cut breaks all connections.
func (c *conns) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	for _, conn := range c.open {
		_ = conn.Close()
	}
	c.open = nil
}

// broken returns a connection that fails at its first use.
func broken() net.Conn {
	ours, theirs := net.Pipe()
	_, _ = ours.Close(), theirs.Close()
	return ours
}
