package feed

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// conns are the connections of a session, and the commands on them. Closing go-redis' clients would not do: a PubSub waits
// for a write that hangs, a command for its reply, and a connection that comes back to a closed pool gives a line on stderr.
type conns struct {
	mu     sync.Mutex // guards what follows
	open   map[*conn]struct{}
	under  int           // commands under way
	closed chan struct{} // not nil once nothing may begin any more; closed when no command is under way
}

// conn is one of them.
type conn struct {
	net.Conn
	of   *conns
	life *life // notes when something arrives, if it is not nil
}

// Read notes that something has arrived.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.life != nil {
		c.life.arrived()
	}
	return n, err
}

// Close may be called twice.
func (c *conn) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// dialer is how go-redis opens connections.
type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// dialer returns one whose connections belong to c.
func (c *conns) dialer(inner dialer, l *life) dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if err := ctx.Err(); err != nil {
			return nil, err // the PubSub's attempt to reconnect, see dead; inner may not look at its context
		}
		opened, err := inner(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		tracked := &conn{Conn: opened, of: c, life: l}
		if c.closed != nil {
			return tracked, opened.Close() // fails at its first use: of a dial that fails go-redis writes to stderr
		}
		if c.open == nil {
			c.open = make(map[*conn]struct{})
		}
		c.open[tracked] = struct{}{}
		return tracked, nil
	}
}

// cut breaks all connections, and waits a moment for the commands under way to notice.
func (c *conns) cut() {
	c.mu.Lock()
	c.closed = make(chan struct{})
	for one := range c.open {
		_ = one.Conn.Close()
	}
	clear(c.open)
	if c.under == 0 {
		close(c.closed)
	}
	c.mu.Unlock()
	timer := time.NewTimer(closeGrace)
	defer timer.Stop()
	select {
	case <-c.closed:
	case <-timer.C:
	}
}

// enter and leave enclose a command.
func (c *conns) enter() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return redis.ErrClosed
	}
	c.under++
	return nil
}

func (c *conns) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.under--; c.under == 0 && c.closed != nil {
		close(c.closed)
	}
}

var _ redis.Hook = (*conns)(nil)

// DialHook changes nothing.
func (c *conns) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook refuses commands after the end.
func (c *conns) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := c.enter(); err != nil {
			cmd.SetErr(err)
			return err
		}
		defer c.leave()
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook refuses pipelines after the end.
func (c *conns) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := c.enter(); err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		defer c.leave()
		return next(ctx, cmds)
	}
}
