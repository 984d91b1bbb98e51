package store

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// lendTime is for how long to wait for a connection that the application uses just now.
	lendTime = 100 * time.Millisecond
	lendTick = time.Millisecond
)

// lenders returns the application's clients that may have a connection to the server of a key, in the order in which to try
// them: the main pool comes first. In a cluster that is the pool of the key's master, and what has moved from there is for
// the client of the cluster.
func (l link) lenders(key string) []redis.UniversalClient {
	var pool mainPool
	if l.cluster == nil {
		pool.Client, _ = redisx.Unwrap[*redis.Client](l.client)
	} else {
		pool.Client = l.master(key)
		pool.hooker, _ = redisx.Unwrap[redisx.ConnectionHooker](l.client) // hooks of a cluster's client do not run on its masters'
	}
	if pool.Client == nil {
		return []redis.UniversalClient{l.client}
	}
	return []redis.UniversalClient{pool, l.client}
}

// mainPool sends on idle connections of a client's main pool. By default go-redis has another pool for pipelines, which is
// empty where the application sends none, and a command that finds no idle connection waits for a new one only. Without an
// idle connection nothing is sent, and the error is errNotSent.
type mainPool struct {
	*redis.Client

	hooker redisx.ConnectionHooker // or nil
}

// lend returns a connection, which is taken from the pool with its first use, and given back by Close.
func (p mainPool) lend() *redis.Conn {
	conn := p.Conn()
	if p.hooker != nil {
		conn.AddHook(p.hooker.ConnectionHook())
	}
	return conn
}

// await waits for an idle connection.
func (p mainPool) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lendTime)
	defer cancel()
	for p.PoolStats().IdleConns == 0 {
		if redisx.Sleep(ctx, lendTick) != nil {
			return errNotSent
		}
	}
	return nil
}

// Process implements redis.UniversalClient.
func (p mainPool) Process(ctx context.Context, cmd redis.Cmder) error {
	if err := p.await(ctx); err != nil {
		cmd.SetErr(err)
		return err
	}
	conn := p.lend()
	defer func() { _ = conn.Close() }()
	return conn.Process(ctx, cmd)
}

// Pipeline implements redis.UniversalClient.
func (p mainPool) Pipeline() redis.Pipeliner {
	conn := p.lend()
	return lentPipeline{conn.Pipeline(), p, conn}
}

// lentPipeline is a pipeline that gives its connection back.
type lentPipeline struct {
	redis.Pipeliner

	pool mainPool
	conn *redis.Conn
}

// Exec implements redis.Pipeliner.
func (p lentPipeline) Exec(ctx context.Context) ([]redis.Cmder, error) {
	defer func() { _ = p.conn.Close() }()
	if err := p.pool.await(ctx); err != nil {
		redisx.SetErrs(p.Cmds(), err)
		return p.Cmds(), err
	}
	return p.Pipeliner.Exec(ctx)
}
