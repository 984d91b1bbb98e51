package client

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// HealthCheck asks the server whether it is fit for use, within the ping timeout
// and ctx. In a Cluster it asks every master. It writes nothing.
//
// It returns nil, ErrInvalidArgument without a ctx, ErrNotStarted, ErrClosed, or an *Error whose kind tells what is
// wrong: ErrUnreachable, ErrTLS, ErrAuth, ErrLoading, ErrReadOnly, ErrOutOfMemory,
// ErrDisk, ErrClusterDown or ErrRefused. What a server does not tell, because it does not
// know INFO or the user may not ask, counts as healthy.
func (r *Redis) HealthCheck(ctx context.Context) error { return r.check(ctx, r.checkMain) }

// check asks a question within the ping timeout and ctx, of a client that is in use.
func (r *Redis) check(ctx context.Context, question func(context.Context) error) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	if err := r.usable(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.PingTimeout)
	defer cancel()
	return question(ctx)
}

// checkMain is the question of HealthCheck.
func (r *Redis) checkMain(ctx context.Context) error {
	if err := r.main.probe(ctx); err != nil {
		return r.fail(classify(err), err)
	}
	if c, ok := r.UniversalClient.(*redis.ClusterClient); ok {
		return r.checkCluster(ctx, c)
	}
	kind, cause := checkServer(ctx, r.UniversalClient)
	if kind == nil {
		return nil
	}
	return r.fail(kind, cause)
}

// checkCluster checks every master, and that they serve all slots between them.
func (r *Redis) checkCluster(ctx context.Context, c *redis.ClusterClient) error {
	err := c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		kind, cause := checkServer(ctx, node)
		if kind == nil {
			info, infoErr := node.ClusterInfo(ctx).Result()
			if infoErr == nil && infoField(info, "cluster_state") == "fail" {
				kind = ErrClusterDown
			}
		}
		if kind == nil {
			return nil
		}
		return &Error{Addr: node.Options().Addr, Kind: kind, Err: cause}
	})
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return r.fail(classify(err), err) // the masters could not be found
}

// checkServer asks one server and returns the kind of trouble with its cause, or
// nil. The commands go one by one, because a pipeline would open a connection of
// its own for them.
func checkServer(ctx context.Context, c redis.Cmdable) (kind, cause error) {
	if err := answered(c.Ping(ctx).Err()); err != nil {
		return classify(err), err
	}
	// From here on an error means that the server does not tell.
	replication := c.Info(ctx, "replication").Val()
	if infoField(replication, "role") == "slave" && infoField(replication, "slave_read_only") != "0" {
		return ErrReadOnly, nil
	}
	if outOfMemory(c.Info(ctx, "memory").Val()) {
		return ErrOutOfMemory, nil
	}
	return nil, nil
}

// outOfMemory reports whether the server refuses writes, by the rule it applies
// itself: the memory that counts is above the limit and nothing may be evicted.
func outOfMemory(info string) bool {
	limit := infoNumber(info, "maxmemory")
	if limit == 0 || infoField(info, "maxmemory_policy") != "noeviction" {
		return false
	}
	return infoNumber(info, "used_memory")-infoNumber(info, "mem_not_counted_for_evict") > limit
}

// infoNumber returns a number from INFO, or 0.
func infoNumber(info, name string) int64 {
	n, err := strconv.ParseInt(infoField(info, name), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// infoField returns the value of one line of INFO, or "".
func infoField(info, name string) string {
	for line := range strings.SplitSeq(info, "\n") {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
