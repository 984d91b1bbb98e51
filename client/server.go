package client

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is one of those that a Redis talks to: the main one, or a lock node.
type server struct {
	client   redis.UniversalClient
	endpoint *endpoint
	dial     dialFunc // through the gate
	gate     *gate
	patience time.Duration // for one PING
}

// ask finds out whether the server answers a PING. It is kind to one that is down.
func (s *server) ask(ctx context.Context) error {
	if err := s.probe(ctx); err != nil {
		return err
	}
	return s.ping(ctx)
}

// probe opens a connection to the server, or to any of the seed addresses, and
// closes it again.
//
// While a server is down this is gentler than a command: go-redis logs every dial
// that fails within its pool and, after as many failures as the pool has places,
// starts a goroutine that outlives Close by up to a second.
func (s *server) probe(ctx context.Context) error {
	if s.connected() {
		return nil // a command will tell more
	}
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result, len(s.endpoint.addrs))
	for _, addr := range s.endpoint.addrs {
		go func() {
			conn, err := s.dial(ctx, s.endpoint.network, addr)
			results <- result{conn, err}
		}()
	}
	// All of them are awaited, so that no connection is left behind; the first
	// that works hurries the others along.
	var errs []error
	reached := false
	for range s.endpoint.addrs {
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
func (s *server) connected() bool {
	if _, ok := s.client.(*redis.ClusterClient); ok {
		// Its PoolStats looks for the nodes first, on the network, for as long
		// as that takes.
		return s.gate.reached.Load()
	}
	return s.client.PoolStats().TotalConns > 0
}

// ping sends one PING to the server, or to every master of a Cluster.
func (s *server) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	if c, ok := s.client.(*redis.ClusterClient); ok {
		err := c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			return answered(node.Ping(ctx).Err())
		})
		if err == nil {
			s.gate.succeeded() // the nodes' commands do not pass our hook
		}
		return err
	}
	return answered(s.client.Ping(ctx).Err())
}

// answered forgives a user who may not PING: that, too, is an answer.
func answered(err error) error {
	if err != nil && redis.IsPermissionError(err) {
		return nil
	}
	return err
}
