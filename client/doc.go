// Package client builds the Redis client that everything else in the module uses.
//
// A [Redis] embeds redis.UniversalClient, so every command of go-redis works on it. Beyond
// that it knows when it may connect, whether the server is fit for use, and how to close.
//
// # Life cycle
//
// [New] checks the configuration, reads the files that it names, and builds the client: nothing
// is dialled, looked up or started before [Redis.Open]. Commands sent earlier
// fail at once with [ErrNotStarted]. [Redis.WaitReady] then waits until the server
// and a majority of the lock nodes are fit for use, and [Redis.Close] ends it all. A
// client that is dropped without Open and without Close leaves nothing behind.
//
// [NewRedis] does all of it for programs without a life cycle of their own:
//
//	rdb, err := client.NewRedis(ctx, &config.Config{Host: "redis.internal"})
//	if err != nil {
//		return err
//	}
//	defer rdb.Close()
//
// # One server, Sentinel, Cluster
//
// The configuration decides: MasterName means Sentinel, Cluster means Cluster,
// anything else one server. Pipelines and subscriptions use connections beside
// the pool, as always in go-redis.
//
// # What is wrong
//
// [Redis.HealthCheck], CheckLockNodes, WaitReady and NewRedis ask the same: whether the
// server is Redis 7.0 or Valkey 8 at least, of the kind that was configured, and lets
// this user do what locks, events and the store do. The probe is a script that calls all commands
// of theirs on the key "<prefix>probe:{…}", which does not exist, and publishes an empty
// message to the channel "<prefix>probe". It leaves nothing behind. Until a check has
// succeeded it also calls INCR, HINCRBY, HSET and HSETNX, which cannot be called without a
// write, and then DEL.
//
// An ACL user needs the keys ~<prefix>*, the channels &<prefix>* and
//
//	+eval +evalsha +get +set +exists +del +pttl +pexpire +incr +time
//	+zadd +zrem +zrange +zrank +zcard +zpopmin
//	+publish +subscribe +ping
//	+xadd +xdel +xtrim +xlen +xrange +xrevrange +hincrby +hget +hmget +hset +hsetnx
//	+multi +exec
//	+psubscribe +unsubscribe +punsubscribe
//	+mget +scan +strlen +getrange +info
//
// A lock node needs the first three lines, and of the channels &<prefix>lock:inbox:* only.
// Its check does not ask for the channels and the third line: without them AcquireWait does
// not hear of a release, and asks for the lock every two seconds. No check asks for the last
// line, which is for GetMany, LoadMany, tags, lists and Clear of a store; GETRANGE only saves it time
// with large values.
// Near caches of a store work best with CLIENT TRACKING, and in a Cluster need CLUSTER MYID;
// without PUBSUB NUMSUB each write of a cache publishes its key.
//
// Some settings need more:
//
//   - a database number: SELECT
//   - a client name: CLIENT SETNAME
//   - Cluster: CLUSTER SLOTS, SSUBSCRIBE and COMMAND; without COMMAND a check passes with a
//     warning, as go-redis then asks for it before each command and writes to stderr
//   - a server that is the only node of a Cluster, without the setting Cluster: CLUSTER INFO,
//     if the user may run INFO
//
// Without INFO a check passes with a warning that the version is unknown. The channels of
// events, such as workflow:*, and what the application itself subscribes to are no part of
// it: the health check subscriptions reports what Redis refuses of them.
//
// A check takes one round trip, on one connection of the pool; in a Cluster one to each
// master, after CLUSTER SLOTS. If none comes free in time it fails, and says so. Until a check has succeeded it also tries to subscribe, on a
// connection beside the pool, to a channel and a glob that nobody publishes to, in a Cluster
// also to a sharded channel. If that connection breaks or takes too long, the check does not
// fail for it, nor if the glob is refused to this user: that leaves an entry in ACL LOG. A
// later check does not notice that INCR, EVAL or subscribing is refused since.
//
// They return an [*Error] with the address and one of the kinds [ErrUnreachable],
// [ErrTLS], [ErrAuth], [ErrLoading], [ErrReadOnly], [ErrOutOfMemory], [ErrDisk],
// [ErrNoReplicas], [ErrClusterDown], [ErrRefused] or [ErrUnsupported], and say what to
// change where they know it. No error and no log line of this module holds a password.
// go-redis by itself writes to stderr what a sentinel answers that refuses it, and what it
// cannot read of a push message: a false server that quotes the password in either shows it
// there, unless redis.SetLogger says otherwise.
//
// What works but may surprise is a warning, see [Redis.Warnings]: a maxmemory-policy
// that may evict locks and events, a replica that accepts writes, a server whose version
// is unknown, or a Cluster that refuses COMMAND.
//
// While a server is down, and when the client is closed, nothing is written to stderr.
// With Sentinel go-redis itself writes there when it finds a master or misses one.
//
// # Metrics
//
// [Redis.Collector] exports, all with the constant label cache (the name of the
// instance, see [WithName]):
//
//   - cache_client_commands_total{command,status}: commands by name and status,
//     which is ok, error, timeout or canceled. A missing key (redis.Nil) is ok.
//   - cache_client_command_duration_seconds{command}: histogram of the time of a
//     command, retries included; a pipeline counts once, as command "pipeline".
//   - cache_client_pool_hits_total{pool}: connections taken from the pool.
//   - cache_client_pool_misses_total{pool}: connections opened for lack of an idle one.
//   - cache_client_pool_timeouts_total{pool}: waits for a connection given up.
//   - cache_client_pool_waits_total{pool}: waits for a connection.
//   - cache_client_pool_wait_seconds_total{pool}: time spent in these waits.
//   - cache_client_pool_stale_connections_total{pool}: connections removed as broken or too old.
//   - cache_client_pool_connections{pool,state}: open connections, idle or used.
//   - cache_client_pool_max_connections{pool}: connections in use at most: per
//     server, and of all lock nodes together.
//   - cache_client_pubsub_connections: open subscribing connections; go-redis does
//     not count them in a Cluster.
//   - cache_client_up{server}: whether the last check succeeded, of the server (main) or of a
//     majority of the lock nodes (lock_nodes). Missing before the first check; it is as old as
//     the last one, which somebody has to ask for, such as a probe of readiness.
//   - cache_info{version,redis_version,mode}: always 1. The version is that of this module, as
//     the program was built with; redis_version is product and version that the server said in
//     the last check, and empty before; mode is single, sentinel or cluster.
//
// The pool is main, pipeline, or lock_nodes (all of them together, pipelines
// included). Commands beyond the first 128 names, and names that are no plain
// words, count as "other".
//
// # Tracing
//
// With [WithTracerProvider] every command becomes a span that names the command
// and the server, by the names of OpenTelemetry's semantic conventions. Keys, values and arguments are in no span. Renewals, heartbeats,
// health checks and what go-redis asks for itself are part of a trace that their
// context belongs to, but start none.
package client
