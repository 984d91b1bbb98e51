package client

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// errNoHost refuses the address of a node that does not say at which host it is: dialling it leads to this machine, where
// another server may be. Redis writes a question mark in place of a host name that it does not have.
var errNoHost = errors.New("client: a node of the Cluster does not say at which host it is; set cluster-announce-ip there, " +
	"or cluster-announce-hostname where its cluster-preferred-endpoint-type is hostname")

// hasHost reports whether an address of a node says at which host that is.
func hasHost(addr string) bool {
	return !strings.HasPrefix(addr, ":") && !strings.HasPrefix(addr, "?:")
}

// newNode returns the client of a Cluster's node.
func newNode(o *redis.Options) *redis.Client {
	c := redis.NewClient(o)
	host, _, _ := net.SplitHostPort(o.Addr)
	c.AddHook(ownHost{host})
	return c
}

// ownHost completes what the node at this host says about its Cluster. One that has never met another does not know its own
// address, and leaves the host empty: it means the one that was asked.
type ownHost struct{ host string }

var _ redis.Hook = ownHost{}

// DialHook changes nothing.
func (ownHost) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook changes nothing: go-redis asks for the nodes by a single command.
func (ownHost) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook completes the reply to CLUSTER SLOTS.
func (h ownHost) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		said, ok := cmd.(*redis.ClusterSlotsCmd)
		if !ok {
			return err
		}
		for _, slots := range said.Val() {
			for i, node := range slots.Nodes {
				if port, ok := strings.CutPrefix(node.Addr, ":"); ok {
					slots.Nodes[i].Addr = net.JoinHostPort(h.host, port)
				}
			}
		}
		return err
	}
}
