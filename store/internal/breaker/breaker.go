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
	// maxNodes is beyond how many servers all are forgotten.
	maxNodes = 256
)

var (
	// ErrOpen means that a server was not asked, as it has not answered a moment ago.
	ErrOpen = errors.New("not asked, because it did not answer a moment ago")
	// ErrNoAnswer is the cause of the end of a call that a server has not answered.
	ErrNoAnswer = errors.New("no answer in time")
	// errNeither ends a call that says nothing about the server.
	errNeither = errors.New("neither success nor failure")
)

// Breakers has one breaker for each server: one, or the masters of a Cluster. It is safe for concurrent use; make it with
// [New].
type Breakers struct {
	cluster *redis.ClusterClient // nil if there is none
	timeout time.Duration
	log     *zap.Logger

	mu    sync.Mutex // guards nodes
	nodes map[string]*node
}

// node is one server.
type node struct {
	*gobreaker.TwoStepCircuitBreaker[struct{}]

	patience
}

// New returns Breakers for the servers of a client. Calls that a server does not answer end when it has answered nobody for the
// timeout, and after eight times that in any case. What is logged goes to log.
func New(client redis.UniversalClient, timeout time.Duration, log *zap.Logger) *Breakers {
	cluster, _ := redisx.Unwrap[*redis.ClusterClient](client)
	return &Breakers{cluster: cluster, timeout: timeout, log: log, nodes: make(map[string]*node)}
}

// Do calls f, which asks the server that has a key, and returns its error; or ErrOpen if that server does not answer. The
// context of f ends with ctx, or when the server takes too long. A failure is an error that is no reply of the server, unless
// ctx has ended, or the server answers others. If calls have waited for the timeout since it has answered any, it is one also if
// ctx has ended: all may have less time than that.
func (b *Breakers) Do(ctx context.Context, key string, f func(ctx context.Context) error) (err error) {
	n := b.node(redisx.Master(b.cluster, key))
	done, refused := n.Allow()
	if refused != nil {
		return ErrOpen
	}
	limited, end := n.limit(ctx)
	defer end()
	returned := false
	defer func() { // also when a hook of the client panics
		switch {
		case !returned:
			done(errNeither)
			return
		case answered(err):
			n.hear()
			done(err)
			return
		}
		ended := redisx.Ended(ctx) // which may take a moment
		switch {
		case (ended || limited.Err() != nil) && !n.isSilent(), // it was the caller's time, or this connection
			ended && isBusy(n.timeout): // an answer may be there that nobody has read
			done(errNeither)
		default:
			done(err)
		}
	}()
	err = f(limited)
	returned = true
	return err
}

// answered reports whether what came of a call was the server's answer.
func answered(err error) bool { return err == nil || redisx.IsReply(err) }

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
	for _, n := range b.nodes {
		if n.State() == gobreaker.StateOpen {
			open++
		}
	}
	return open
}

// node returns what is known of a server.
func (b *Breakers) node(address string) *node {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[address]
	if n == nil {
		if len(b.nodes) >= maxNodes {
			clear(b.nodes)
		}
		n = &node{patience: patience{timeout: b.timeout}}
		n.TwoStepCircuitBreaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			Name: address, Timeout: pause,
			ReadyToTrip:  func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= failures },
			IsSuccessful: answered,
			IsExcluded:   func(err error) bool { return err == errNeither }, //nolint:errorlint // our own
			OnStateChange: func(address string, from, to gobreaker.State) {
				if to == gobreaker.StateHalfOpen {
					n.hear() // the one that tries has time of its own
				}
				b.changed(address, from, to)
			},
		})
		b.nodes[address] = n
	}
	return n
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
