package client

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
)

// probe opens a connection to the server, or to any of the seed addresses, and
// closes it again.
//
// While a server is down this is gentler than a command: go-redis logs every dial
// that fails within its pool and, after as many failures as the pool has places,
// starts a goroutine that outlives Close by up to a second.
func (r *Redis) probe(ctx context.Context) error {
	if r.connected() {
		return nil // a command will tell more
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.PingTimeout)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result, len(r.endpoint.addrs))
	for _, addr := range r.endpoint.addrs {
		go func() {
			conn, err := r.dial(ctx, r.endpoint.network, addr)
			results <- result{conn, err}
		}()
	}
	// All of them are awaited, so that no connection is left behind; the first
	// that works hurries the others along.
	var errs []error
	reached := false
	for range r.endpoint.addrs {
		res := <-results
		if res.err != nil {
			errs = append(errs, res.err)
			continue
		}
		reached = true
		cancel()
		_ = res.conn.Close()
	}
	if reached {
		return nil
	}
	return errors.Join(errs...)
}

// connected reports whether a command would probably find a connection.
func (r *Redis) connected() bool {
	if _, ok := r.UniversalClient.(*redis.ClusterClient); ok {
		// Its PoolStats looks for the nodes first, on the network, for as long
		// as that takes.
		return r.gate.reached.Load()
	}
	return r.UniversalClient.PoolStats().TotalConns > 0
}
