package lock

import (
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// node is one Redis that grants locks: the only one, or one of the masters of a quorum. A cluster is one node.
type node struct {
	manager *RedisLockManager
	index   int
	client  redis.UniversalClient
	cluster *redis.ClusterClient // what is behind client, nil if that is no cluster
	scripts scripts
	loaded  [scriptCount]atomic.Bool // which of them this node has been given
	// separate says that calls cannot be done in one run, as the keys of a cluster are on different nodes.
	separate atomic.Bool
	// renewals is how many pipelines of renewals are under way.
	renewals atomic.Int32
	inbox    *inbox
	// heeds tells that the client is known to stop waiting when the deadline of a context is over.
	heeds   bool
	batches batcher // sends commands
}

func newNode(m *RedisLockManager, index int, client redis.UniversalClient) *node {
	n := &node{manager: m, index: index, client: client}
	n.cluster, _ = redisx.Unwrap[*redis.ClusterClient](client)
	n.separate.Store(n.cluster != nil)
	// In a cluster PUBLISH counts the subscribers of its own node only.
	n.scripts = newScripts(len(m.set.nodes) > 1, m.grant(), n.cluster == nil, m.inboxPrefix)
	n.inbox = newInbox(n)
	n.heeds = heeds(client)
	n.batches.node, n.batches.alarm.ring = n, n.batches.expire
	return n
}

// heeds reports whether a client is known to stop waiting when the deadline of a context is over.
func heeds(client redis.UniversalClient) bool {
	if c, ok := redisx.Unwrap[*redis.Client](client); ok {
		return c.Options().ContextTimeoutEnabled
	}
	if c, ok := redisx.Unwrap[*redis.ClusterClient](client); ok {
		return c.Options().ContextTimeoutEnabled
	}
	return false
}

// number runs a script whose reply is an integer.
func (n *node) number(r *round, c call) (number int64, repeated bool, err error) {
	reply, repeated, err := n.send(r, c)
	if err != nil {
		return 0, repeated, err
	}
	number, err = integer(reply)
	return number, repeated, err
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
