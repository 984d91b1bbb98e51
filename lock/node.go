package lock

import (
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/unwrap"
)

// node is one Redis that grants locks: the only one, or one of the masters of a quorum. A cluster is one node.
type node struct {
	manager *RedisLockManager
	index   int
	client  redis.UniversalClient
	loaded  [scriptCount]atomic.Bool // scripts that this node has been given
	// renewals is how many pipelines of renewals are under way.
	renewals atomic.Int32
	// strict is 1 if PUBLISH counts all subscribers. In a cluster it knows those of its own node only.
	strict int
	inbox  *inbox
	// releaseTail and leaveTail are the constant arguments of the release script.
	releaseTail, leaveTail []any
	// batches join commands that are sent at the same time: those that go-redis may repeat, and those it may not.
	batches [2]batcher
}

func newNode(m *RedisLockManager, index int, client redis.UniversalClient) *node {
	n := &node{manager: m, index: index, client: client, strict: 1}
	if _, ok := unwrap.As[*redis.ClusterClient](client); ok {
		n.strict = 0
	}
	n.inbox = newInbox(n)
	n.releaseTails()
	n.batches[0].client, n.batches[1].client = client, client
	return n
}

// send executes a script, in one round trip unless the server has forgotten it. After a failure of the network go-redis
// repeats it, unless it is to be sent once only.
func (n *node) send(ctx bounded, s *script, keys, args []any, single bool) (any, error) {
	// The first call carries the source, as asking by hash first would cost a round trip to be told that it is unknown.
	known := n.loaded[s.index].Load()
	reply, err := n.process(ctx, s.command(ctx, !known, keys, args), single)
	if known && err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
		// The server was restarted or flushed, or it is another node of the cluster.
		reply, err = n.process(ctx, s.command(ctx, true, keys, args), single)
	}
	if err == nil && !known {
		n.loaded[s.index].Store(true)
	}
	return reply, err
}

// process sends one command, together with others if many are under way.
func (n *node) process(ctx bounded, cmd *redis.Cmd, single bool) (any, error) {
	var err error
	if single {
		err = n.batches[1].process(ctx, once{cmd})
	} else {
		err = n.batches[0].process(ctx, cmd)
	}
	if err != nil {
		return nil, err
	}
	return cmd.Val(), nil
}

// number runs a script whose reply is an integer.
func (n *node) number(ctx bounded, s *script, keys, args []any, single bool) (int64, error) {
	reply, err := n.send(ctx, s, keys, args, single)
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
