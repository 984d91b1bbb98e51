package client

import (
	"context"
	"net"
	"syscall"
)

// tied is a connection that ends when its gate closes.
//
// It ends the commands under way before Close closes the pools: go-redis complains of
// a connection that comes back to a closed pool. With Sentinel the Close of go-redis
// also waits for questions to sentinels, and does not end them by itself.
type tied struct {
	net.Conn
	release func() bool
}

// tie makes conn end with the gate.
func (g *gate) tie(conn net.Conn) net.Conn {
	t := &tied{conn, context.AfterFunc(g.done, func() { _ = conn.Close() })}
	if raw, ok := conn.(syscall.Conn); ok {
		// go-redis looks through it whether an idle connection still lives.
		return struct {
			*tied
			syscall.Conn
		}{t, raw}
	}
	return t
}

// Close closes the connection. It may be repeated.
func (t *tied) Close() error {
	if !t.release() {
		_ = t.Conn.Close() // the gate is closing it, perhaps just now
		return nil
	}
	return t.Conn.Close()
}
