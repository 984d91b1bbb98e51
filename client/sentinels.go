package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Each time go-redis dials the master it asks the sentinel that answered before, and the others
// only after that one has failed. If the dial ends first, it remains the one to be asked: a
// sentinel that hangs, while all others are well, could keep us from the master for ever. And
// where it asks all at once it waits for each, although it has the answer.
//
// Therefore a sentinel has a limit of its own, of which a dial has time for three: for one that
// hangs, for the others, and for the master. What is late is a silence, which go-redis takes for
// the end of a context: it does not ask the same sentinel again. For as long as that limit no new
// connection to it is tried either, so that one silence costs the time of one.

// answerTime is how long a sentinel may take to accept a connection, and for each answer.
const answerTime = time.Second

// answerTime returns the limit of the endpoint's sentinels, or 0 if there are none.
func (e *endpoint) answerTime() time.Duration {
	if e.mode != modeSentinel {
		return 0
	}
	limit := min(answerTime, e.options.DialTimeout/3)
	if e.options.ReadTimeout > 0 {
		limit = min(limit, e.options.ReadTimeout)
	}
	return max(limit, 1)
}

// silence is the error of a sentinel that does not answer.
type silence struct {
	addr  string
	limit time.Duration
}

func (s silence) Error() string {
	return fmt.Sprintf("sentinel %s gives no answer in %v", s.addr, s.limit)
}
func (silence) Unwrap() error { return context.DeadlineExceeded }

// masterKey marks the context of a dial that leads to the master.
type masterKey struct{}

// connectSentinel returns a client whose contexts tell our dialer what is no sentinel. The pools
// of the clients that ask sentinels dial with contexts of their own; only the first subscription
// at one that has just answered, which go-redis opens within the dial, counts as the master's.
func connectSentinel(o *redis.FailoverOptions) *redis.Client {
	c := redis.NewFailoverClient(o)
	// It dials with the function in these Options, and so do copies that others make of them.
	options := c.Options()
	dial := options.Dialer
	options.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dial(context.WithValue(ctx, masterKey{}, true), network, addr)
	}
	return c
}

// isSentinel reports whether a dial with ctx leads to a sentinel.
func (p *peers) isSentinel(ctx context.Context) bool {
	return p.answerTime > 0 && ctx.Value(masterKey{}) == nil
}

// silent notes that the sentinel at addr has not answered in time, and returns the error.
func (p *peers) silent(addr string) error {
	p.peer(addr).silentAt.Store(p.now())
	return silence{addr, p.answerTime}
}

// isSilent reports whether that was a moment ago.
func (p *peers) isSilent(addr string) bool {
	at := p.peer(addr).silentAt.Load()
	return at > 0 && p.now()-at < int64(p.answerTime)
}

// late adds to err, if it says no more than that time is over, which sentinels owe an answer
// for longer than they should, or else to which master, that they name, there is no connection.
func (s *server) late(err error) error {
	if _, named := errors.AsType[silence](err); named || !isContext(err) {
		return err
	}
	var late []string
	before := s.peers.now() - int64(s.peers.answerTime/10)
	s.peers.mu.Lock()
	for c := range s.peers.asking {
		if sent := c.pendingSince.Load(); sent > 0 && sent < before {
			late = append(late, c.addr)
		}
	}
	s.peers.mu.Unlock()
	for _, addr := range s.endpoint.addrs {
		if s.peers.isSilent(addr) {
			late = append(late, addr)
		}
	}
	if len(late) == 0 {
		if master, _ := s.peers.unconnected.Load().(string); master != "" && s.endpoint.mode == modeSentinel {
			return fmt.Errorf("no connection to the master at %s, which the sentinels name (%w)", master, err)
		}
		return err
	}
	slices.Sort(late)
	return fmt.Errorf("no answer from sentinel %s (%w)", strings.Join(slices.Compact(late), ", "), err)
}
