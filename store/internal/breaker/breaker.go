// Package breaker stops asking servers that do not answer, so that callers lose no time with them.
package breaker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// failures is after how many in a row a server is not asked any more.
	failures = 3
	// pause is for how long. Then one caller tries it.
	pause = time.Second
	// maxNodes is beyond how many servers those are forgotten that work.
	maxNodes = 256
)

var (
	// ErrOpen means that a server was not asked, as it has not answered a moment ago.
	ErrOpen = errors.New("not asked, as it has not answered a moment ago")
	// errNeither ends a call that says nothing about the server.
	errNeither = errors.New("neither success nor failure")
)

// Breakers has one breaker for each server: one, or the masters of a Cluster. It is safe for concurrent use; make it with
// [New].
type Breakers struct {
	cluster *redis.ClusterClient // nil if there is none
	log     *zap.Logger

	mu    sync.Mutex // guards nodes
	nodes map[string]*breaker
}

type breaker = gobreaker.TwoStepCircuitBreaker[struct{}]

// New returns Breakers for the servers of a client. What is logged goes to log.
func New(client redis.UniversalClient, log *zap.Logger) *Breakers {
	cluster, _ := redisx.Unwrap[*redis.ClusterClient](client)
	return &Breakers{cluster: cluster, log: log, nodes: make(map[string]*breaker)}
}

// Do calls f, which asks the server that has a key, and returns its error; or ErrOpen if that server does not answer. A
// failure is an error that is no reply of the server, unless the caller's context, ctx, has ended.
func (b *Breakers) Do(ctx context.Context, key string, f func() error) (err error) {
	done, refused := b.node(redisx.Master(b.cluster, key)).Allow()
	if refused != nil {
		return ErrOpen
	}
	returned := false
	defer func() { // also when a hook of the client panics
		switch {
		case !returned, err != nil && ctx.Err() != nil:
			done(errNeither)
		default:
			done(err)
		}
	}()
	err = f()
	returned = true
	return err
}

// Group divides keys by server, and returns the indexes of those that each has.
func (b *Breakers) Group(keys []string) [][]int {
	groups := redisx.ByMaster(b.cluster, len(keys), func(i int) string { return keys[i] })
	return slices.Collect(maps.Values(groups))
}

// Open returns how many servers are not asked at present.
func (b *Breakers) Open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := 0
	for _, node := range b.nodes {
		if node.State() == gobreaker.StateOpen {
			open++
		}
	}
	return open
}

// node returns the breaker of a server.
func (b *Breakers) node(address string) *breaker {
	b.mu.Lock()
	defer b.mu.Unlock()
	node := b.nodes[address]
	if node == nil {
		if len(b.nodes) >= maxNodes {
			clear(b.nodes)
		}
		node = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			Name: address, Timeout: pause,
			ReadyToTrip:   func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= failures },
			IsSuccessful:  func(err error) bool { return err == nil || redisx.IsReply(err) },
			IsExcluded:    func(err error) bool { return err == errNeither }, //nolint:errorlint // our own
			OnStateChange: b.changed,
		})
		b.nodes[address] = node
	}
	return node
}

// changed logs what a breaker does. It holds the breaker's mutex.
func (b *Breakers) changed(address string, from, to gobreaker.State) {
	switch {
	case to == gobreaker.StateOpen && from == gobreaker.StateClosed:
		b.log.Warn("store: redis does not answer: caches do without", zap.String("node", address))
	case to == gobreaker.StateClosed:
		b.log.Info("store: redis answers caches again", zap.String("node", address))
	}
}
