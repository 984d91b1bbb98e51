package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// What a server says of itself, and what that means for locks and events.

// The oldest servers that work. Redis before 7.0 hides READONLY inside the errors of
// scripts and has no sharded publish/subscribe, without which the failover of a
// Cluster loses events silently. Valkey began as 7.2, and is supported from 8 on.
const (
	oldestRedis  = 7
	oldestValkey = 8
)

// mismatch returns what is wrong if err is how a server of another kind refuses a
// client, or that it does not accept the credentials.
func (s *server) mismatch(ctx context.Context, err error) (problem string, denied error) {
	text := err.Error()
	_, moved := redis.IsMovedError(err)
	switch {
	case s.endpoint.mode == modeCluster:
		if strings.Contains(text, "cluster support disabled") || isUnknown(err, "cluster") {
			return "it is no Cluster; do not set Cluster (REDIS_CLUSTER)", nil
		}
		if errors.Is(err, redis.Nil) { // in place of a host, in CLUSTER SLOTS
			return "its nodes do not say where they are; set cluster-preferred-endpoint-type to ip or hostname there", nil
		}
	case s.endpoint.mode == modeSentinel:
		if isUnknown(err, "sentinel") {
			return "it is no Sentinel; do not set MasterName (REDIS_MASTER_NAME), or set Addrs (REDIS_ADDRS) to the sentinels", nil
		}
		// Wrapped: it is what the sentinels said, and no reply to our command.
		if errors.Is(err, redis.Nil) {
			return "the sentinels know no master of this name; see MasterName (REDIS_MASTER_NAME)", nil
		}
	case moved, strings.Contains(text, "not allowed in cluster mode"):
		return s.endpoint.otherKind("cluster"), nil
	default:
		return s.identify(ctx)
	}
	return "", nil
}

// identify asks the server what it is over a connection of its own that selects no
// database and sets no name, which a Sentinel and a Cluster refuse. It returns "" if
// the server does not say, and its error if it wants other credentials first.
func (s *server) identify(ctx context.Context) (problem string, denied error) {
	o := s.endpoint.options.Simple()
	o.Network, o.Addr, o.Dialer = s.endpoint.network, s.endpoint.addrs[0], s.dial
	o.DB, o.ClientName, o.PoolSize, o.MinIdleConns, o.MaxRetries = 0, "", 1, 0, -1
	c := redis.NewClient(o)
	defer func() { _ = c.Close() }()
	c.AddHook(s.guard())
	switch said, err := c.Info(ctx, "server").Result(); {
	case err == nil:
		return s.misfit(ctx, said, c), nil
	case isAuth(err):
		return "", err
	default:
		return "", nil
	}
}

// misfit says why a Redis that describes itself like this cannot be used at all; ""
// if nothing is known against it.
func (s *server) misfit(ctx context.Context, info string, node redis.UniversalClient) string {
	mode := infoField(info, "redis_mode")
	switch {
	case mode == "sentinel":
		return s.endpoint.otherKind(mode)
	case mode == "cluster" && s.endpoint.mode != modeCluster:
		// A Cluster of one node serves everybody.
		state, err := node.ClusterInfo(ctx).Result()
		if err != nil || infoField(state, "cluster_size") != "1" {
			return s.endpoint.otherKind(mode)
		}
	}
	return adviceForVersion(info)
}

// otherKind says what to change where a server turns out to be a sentinel, or else a node of
// a cluster.
func (e *endpoint) otherKind(mode string) string {
	switch {
	case mode == "sentinel" && e.lockNode:
		return "it is a Sentinel; LockNodes (REDIS_LOCK_NODES) are the Redis servers themselves"
	case mode == "sentinel":
		return "it is a Sentinel; set MasterName and Addrs (REDIS_MASTER_NAME and REDIS_ADDRS)"
	case e.lockNode:
		return "it is a node of a Cluster; LockNodes (REDIS_LOCK_NODES) are independent servers"
	default:
		return "it is a node of a Cluster; set Cluster (REDIS_CLUSTER=true)"
	}
}

// adviceForVersion says that the server which describes itself by info is too old to be used,
// with its version and the one it takes; "" if it is new enough, or does not say.
func adviceForVersion(info string) string {
	product, version, oldest := serverVersion(info)
	if oldest == 0 || majorVersion(version) >= oldest {
		return ""
	}
	return fmt.Sprintf("it is %s %s, and Redis %d.0 or Valkey %d is needed at least", product, version, oldestRedis, oldestValkey)
}

// serverVersion returns what INFO server says about product and version. oldest is
// the first major version of that product that works, and 0 if that is not known.
//
// Others say the version of the Redis whose commands they have, besides their own.
func serverVersion(info string) (product, version string, oldest int) {
	for _, other := range []string{"dragonfly", "garnet", "kvrocks", "rlec"} {
		if v := infoField(info, other+"_version"); v != "" {
			return other, v, 0
		}
	}
	compatible, valkey := infoField(info, "redis_version"), infoField(info, "valkey_version")
	switch name := infoField(info, "server_name"); {
	case valkey != "":
		product, version, oldest = "Valkey", valkey, oldestValkey
	case name != "" && name != "redis":
		return name, compatible, 0
	case compatible != "":
		product, version, oldest = "Redis", compatible, oldestRedis
	}
	if majorVersion(version) == 0 {
		oldest = 0
	}
	return product, version, oldest
}

// majorVersion returns the first number of a version such as 7.0.15, or 0.
func majorVersion(version string) int {
	digits, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// runID returns the identity of the server that describes itself by info, or "". Other
// products than Redis and Valkey may not give each server one of its own.
func runID(info string) string {
	if _, _, oldest := serverVersion(info); oldest == 0 {
		return ""
	}
	return infoField(info, "run_id")
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

// warnings returns what need not be wrong with the server that gave these answers to a check
// that succeeded, but may surprise.
func (a answers) warnings() (all []string) {
	if w := unknownVersion(a.server.Result()); w != "" {
		all = append(all, w)
	}
	state := a.state.Val() // unknown if refused
	// Locks and journals have a time to live, so that the volatile policies take them as well.
	if policy := infoField(state, "maxmemory_policy"); policy != "" && policy != "noeviction" {
		all = append(all, fmt.Sprintf("maxmemory-policy %s may evict locks and events; set maxmemory-policy noeviction", policy))
	}
	if infoField(state, "role") == "slave" { // which has just accepted a write
		all = append(all, "it is a replica that accepts writes, which its master never gets; "+
			"use the master, or set replica-read-only yes")
	}
	if a.table != nil && redisx.IsReply(a.table.Err()) {
		all = append(all, "COMMAND is refused, which go-redis then sends before each command, "+
			"with a line on stderr each time; grant +command: "+discreetReply(a.table.Err()).Error())
	}
	return all
}

// unknownVersion returns a warning about a server that may be too old: it does not say,
// as INFO failed with err, or it is no Redis.
func unknownVersion(info string, err error) string {
	product, version, oldest := serverVersion(info)
	switch {
	case oldest > 0:
		return ""
	case err != nil && strings.Contains(err.Error(), "section (server) is not supported"):
		return "" // miniredis, as in package embedded: known, without a version
	case product != "":
		return fmt.Sprintf("it is %s %s, with which this module was not tested", product, version)
	case err != nil:
		return "its version is unknown, as INFO is refused: " + discreetReply(err).Error()
	default:
		return "its version is unknown, as INFO does not say it"
	}
}
