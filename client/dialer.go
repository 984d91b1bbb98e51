package client

import (
	"context"
	"net"
	"time"
)

// dialFunc is the shape of redis.Options.Dialer.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// dialer returns the only way to the network. It fails at once while the gate is
// shut: a dial that waited would hold a goroutine of go-redis until Close, which is
// never called on an application that could not be built.
//
// All connections end with the gate, see gatedConn.
func (g *gate) dialer(dial dialFunc, e *endpoint) dialFunc {
	if dial == nil {
		d := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
			// Notices a vanished peer in about 45 s, before most firewalls
			// forget an idle connection.
			Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3,
		}}
		dial = d.DialContext
	}
	servers := newPeers(e.options.ReadTimeout)
	e.provided.replaces(servers)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if err := g.check(); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, e.options.DialTimeout)
		defer cancel()
		defer context.AfterFunc(g.done, cancel)()
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, g.blame(err)
		}
		if e.tls != nil {
			secure, err := e.tls.handshake(ctx, conn, addr)
			if err != nil {
				_ = conn.Close()
				return nil, g.blame(err)
			}
			conn = secure
		}
		// Outside of TLS, which would report that its connection is gone.
		return servers.watch(g.attach(conn), addr), nil
	}
}
