// Package client builds the Redis client that everything else in the module uses.
//
// A [Redis] embeds redis.UniversalClient, so every command of go-redis works on
// it. Beyond that it knows when it may connect, whether the server is fit for
// use, and how to close everything once.
//
// # Life cycle
//
// [New] checks the configuration and builds the client without any I/O: nothing
// is dialled, looked up or started before [Redis.Open]. Commands sent earlier
// fail at once with [ErrNotStarted]. [Redis.WaitReady] then waits for the server
// and a majority of the lock nodes, and [Redis.Close] ends it all. A client that is dropped without Open and
// without Close leaves nothing behind.
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
// # Polling
//
// A command that is alone on its client may be polled for: its goroutine asks the socket for the reply again and again,
// for the config's BusyPoll at most, before it sleeps. With a Redis on the same machine, and processors that have little
// else to do, that about halves the time of a command, as a processor that has gone idle takes longer to wake than
// Redis takes to answer. Which way is faster is measured: on 64 commands of each way, after which 2048 are sent in the
// better one before the next trial. As polling keeps a processor busy, it has to gain a tenth to begin with; after that
// it goes on for as long as it gains anything. A server behind a network, or busy processors, are waited for as ever.
//
// A reply that was polled for also makes a subscription on the same client look for a message, for 50µs at most, since a
// publish may be what was replied to. Four times in vain, and that is left to one reply in 2048 until it brings something
// again.
//
// Commands under way at the same time are not polled for. Who sends one command after the other and polls keeps its
// processor, and lets other goroutines run each millisecond: so long, or BusyPoll if that is longer, may they wait where
// all processors are busy or polled on. On Linux, other processes go first. Polling needs Unix, a plain TCP or Unix
// socket (TLS may be spoken over it), and more than one processor.
//
// # What is wrong
//
// [Redis.HealthCheck], CheckLockNodes, WaitReady and NewRedis return an [*Error] with the address
// and one of the kinds [ErrUnreachable], [ErrTLS], [ErrAuth], [ErrLoading],
// [ErrReadOnly], [ErrOutOfMemory], [ErrDisk], [ErrClusterDown] or [ErrRefused]. No error and
// no log line holds a password.
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
//     not tell them in a Cluster.
//
// The pool is main, pipeline, or lock_nodes (all of them together, pipelines
// included). Commands beyond the first 128 names, and names that are no plain
// words, count as "other".
//
// # Tracing
//
// With [WithTracerProvider] every command becomes a span that names the command
// and the server. Keys, values and arguments are in no span.
package client
