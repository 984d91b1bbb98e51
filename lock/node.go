package lock

import (
	"fmt"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/unwrap"
)

// node is one Redis that grants locks: the only one, or one of the masters of a quorum. A cluster is one node.
type node struct {
	manager *RedisLockManager
	index   int
	client  redis.UniversalClient
	cluster bool
	loaded  [scriptCount]atomic.Bool // scripts that this node has been given
	// renewals is how many pipelines of renewals are under way.
	renewals atomic.Int32
	inbox    *inbox
	// rules is what the scripts that deal with waiters have in common, see handover.lua.
	rules any
	// retention is the same for the fence, see acquire.lua.
	retention []any
	// heeds tells that the client is known to stop waiting when the deadline of a context is over.
	heeds bool
	// repeated and single send the commands that go-redis may repeat, and those it may not.
	repeated, single batcher
}

func newNode(m *RedisLockManager, index int, client redis.UniversalClient) *node {
	n := &node{manager: m, index: index, client: client, retention: []any{fenceRetention}}
	_, n.cluster = unwrap.As[*redis.ClusterClient](client)
	strict := 1
	if n.cluster {
		strict = 0 // PUBLISH counts the subscribers of its own node only
	}
	n.rules = fmt.Sprintf("%d %s %d %s", m.grant().Milliseconds(), fenceRetention, strict, m.inboxPrefix)
	if len(m.set.nodes) > 1 {
		n.retention = append(n.retention, "1")
	}
	n.inbox = newInbox(n)
	n.heeds = heeds(client)
	n.repeated.node, n.single.node = n, n
	n.single.single = true
	return n
}

// heeds reports whether a client is known to stop waiting when the deadline of a context is over.
func heeds(client redis.UniversalClient) bool {
	if c, ok := unwrap.As[*redis.Client](client); ok {
		return c.Options().ContextTimeoutEnabled
	}
	if c, ok := unwrap.As[*redis.ClusterClient](client); ok {
		return c.Options().ContextTimeoutEnabled
	}
	return false
}

// send executes a script, in one round trip unless the server has forgotten it. After a failure of the network go-redis
// repeats it, unless it is to be sent once only.
func (n *node) send(r *round, s *script, keys, args []any, single bool) (any, error) {
	b := &n.repeated
	if single {
		b = &n.single
	}
	// The first call carries the source, as asking by hash first would cost a round trip to be told that it is unknown.
	known := n.loaded[s.index].Load()
	cmd := s.command(r.ctx, !known, keys, args)
	err := b.process(r, cmd)
	if known && err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
		// The server was restarted or flushed, or it is another node of the cluster.
		cmd = s.command(r.ctx, true, keys, args)
		err = b.process(r, cmd)
	}
	if err != nil {
		return nil, err // and no look at the command, which may still be under way
	}
	if !known {
		n.loaded[s.index].Store(true)
	}
	return cmd.Val(), nil
}

// number runs a script whose reply is an integer.
func (n *node) number(r *round, s *script, keys, args []any, single bool) (int64, error) {
	reply, err := n.send(r, s, keys, args, single)
	if err != nil {
		return 0, err
	}
	return integer(reply)
}

// integer converts the reply of a script.
func integer(reply any) (int64, error) {
	number, ok := reply.(int64)
	if !ok {
		return 0, errUnexpectedReply
	}
	return number, nil
}

// integers converts the reply of a script that is a list of numbers.
func integers(reply any, count int) ([]int64, error) {
	list, ok := reply.([]any)
	if !ok || len(list) != count {
		return nil, errUnexpectedReply
	}
	numbers := make([]int64, count)
	for i, item := range list {
		number, err := integer(item)
		if err != nil {
			return nil, err
		}
		numbers[i] = number
	}
	return numbers, nil
}
