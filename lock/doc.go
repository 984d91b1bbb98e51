// Package lock locks resources across processes by means of Redis: with fencing tokens, automatic renewal, a fair queue
// for those who wait, and a notice to the holder before a lock can expire.
//
//	manager, err := lock.NewRedisLockManager(client) // a *redis.Client, *redis.ClusterClient, ...
//	defer manager.Close(ctx)
//
// # Acquire
//
// [RedisLockManager.Acquire] tries once. It returns a lock, or an error that tells apart what must not be confused:
// somebody else holds the lock ([ErrLockNotAcquired]), the caller's context has ended (its own error), Redis failed
// ([ErrRedis]). It takes one round trip, and so do a refusal and [RedisLock.Release]. A held lock is renewed every third
// of its TTL until it is released or lost; thousands of locks are renewed in a few pipelines.
//
// # Wait
//
// [RedisLockManager.AcquireWait] queues until its context ends. Waiters are served first come, first served, across
// processes, and are woken by the release, which passes the lock on: nobody polls. Several masters cannot pass it on; they
// tell the first waiter, and besides each asks once a second. It uses one pub/sub connection to each node for each manager,
// opened when somebody has to wait for the first time. Where that is impossible, for instance as an ACL forbids the
// channel, waiters poll: soon after they come, then every quarter of a second.
//
// # With lock
//
// [RedisLockManager.WithLock] waits, runs a function with a context that ends with the lock, and releases.
//
// # Loss
//
// A holder is told that its lock is lost before anybody else can get it: [RedisLock.Lost] is closed and
// [RedisLock.Context] canceled, with the cause [ErrLockExpired], [ErrLockStolen] or [ErrManagerClosed]. The time counts
// from before the last confirmed call was sent, less 1% and 2ms for clocks, less a guard of a tenth of the TTL (at most
// 500ms); a timer of its own tells, which waits for no call. [RedisLock.IsHeld] compares the clocks itself. A lost lock
// is never revived. What no library can do is stop a holder that has been told, or was stopped itself while it was
// told: that is what tokens are for.
//
// Timers stand still while a machine is suspended. Afterwards IsHeld, Refresh and Release know by the wall clock that the
// time is up, and Lost and Context tell with the next renewal. So a lock also ends when the wall clock is set forward by
// as much as it has left.
//
// # Fencing
//
// Every acquisition has a token, see [RedisLock.Token], larger than all earlier ones of the same resource. Pass it
// along with writes, and let the store refuse a token smaller than the largest it has seen:
//
//	UPDATE account SET balance = $1, fence = $2 WHERE id = $3 AND fence <= $2
//
// The counter of a resource starts at the server's clock in microseconds and counts up from there. It is kept for a day
// and then begins anew. If it gets lost, tokens grow on as long as clocks do.
//
// # Quorum
//
// With [WithNodes] a lock lives on several independent masters and is held when a majority has granted it, as Redlock
// describes. All are asked in parallel, and the answer is there when the majority has decided: a minority that is down
// costs no time, unless those that answer are split between several who acquire. Then it is waited for as long again as
// they took, at least 50ms. The token is the largest that a granting master gave, and is on a majority before the holder
// sees it.
// A master that was restarted empty gets the locks back that a majority confirms, with their next automatic renewal. Until
// then it grants them to anybody, so that two could have a majority: a master that may have lost its data has to stay away
// for as long as the longest TTL.
//
// Both Acquire and Release return when the majority has decided. What a manager has released it can acquire again at once
// nevertheless, even where a master that is late has not heard of the release yet. Another manager may still be refused
// by such a master right after the release; waiting copes with it.
//
// A split is a refusal, ErrLockNotAcquired, whether all masters have answered or only a majority of them: Redis works, and
// somebody else is there, though perhaps without a majority as well. So it means that the resource is contended, not that
// somebody has it for sure, as on one server. ErrRedis is left to mean that no majority has answered.
//
// # What asynchronous replication cannot promise
//
// Redis replicates after it has answered. When a master fails before a lock has reached its replica, Sentinel or the
// cluster promote a replica that knows nothing of the lock, and another holder can get it while the first still holds
// it: up to a third of the TTL, until the first one's renewal finds out. Its token will be larger nevertheless, as long
// as the clocks of the two servers differ by less than the failover takes. Where this matters, use tokens, or a quorum
// of independent masters. The queue survives a failover: waiters ask again when they have reconnected.
//
// # Metrics
//
// [RedisLockManager.Collector] exports, all with the label cache (see [WithName]):
//
//   - cache_lock_acquisitions_total{outcome}: tries; outcome is acquired, refused, canceled (also by Close) or error
//   - cache_lock_wait_seconds: histogram of the time from the call to the lock
//   - cache_lock_hold_seconds: histogram of the time from acquisition to release or loss
//   - cache_lock_held: locks held now
//   - cache_lock_waiting: callers that wait now
//   - cache_lock_releases_total, cache_lock_release_errors_total: releases of held locks
//   - cache_lock_refreshes_total, cache_lock_refresh_errors_total: explicit refreshes
//   - cache_lock_renewals_total, cache_lock_renewal_errors_total: automatic renewals
//   - cache_lock_lost_total{cause}: losses; cause is expired, stolen or closed
//   - cache_lock_hand_offs_total: releases that passed the lock on to a waiter
//
// [RedisLockManager.GetMetrics] returns the same numbers as a struct.
//
// # The way of a lock
//
//	acquire.go    tries once, and tells refusal, failure and the caller's end apart
//	quorum.go     puts a question to all nodes through redsync (pool.go), and takes back what came to nothing; votes.go counts
//	node.go       asks one node by a script (script.go), together with other callers, and again after a failure that passes
//	fencing.go    makes a majority agree on the token
//	leftovers.go  knows what a late master may still have of ours, so that it refuses nobody of us
//	loss.go       makes the lock, and ends it in time (expiry.go is its timer); held.go is all there are
//	renewal.go    extends all that are held, renewalbatch.go reads the answers; rejoin.go brings one back to a master that has forgotten it
//	wait.go       is the queue within the process, contender.go competes for it, inbox.go hears of releases
//	place.go      asks for a place in Redis' queue, and says when to ask again
//	release.go    gives it back or passes it on
//	cleanup.go    removes what commands of unknown fate may have left
//
// The scripts beside them say what Redis does.
//
// # Failure
//
//   - Redis down: Acquire fails within the node timeout ([WithNodeTimeout]) with ErrRedis. Held locks are lost on time.
//     A client must heed the deadlines of contexts (redis.Options.ContextTimeoutEnabled) for its connections to be freed
//     as fast; calls return in time in any case.
//   - One master of a cluster hangs: the locks on it are lost on time, those on the others are renewed, acquired and released
//     meanwhile.
//   - A command whose fate is unknown is undone in the background, so that an Acquire that failed leaves no key.
//   - A holder that dies delays the others by its TTL, a waiter whose connection was closed not at all, and one that
//     vanished without, as its machine is gone, by less than two seconds, however many of them are in a row: all who wait
//     hear of a new holder, and the first of them that is alive asks whether it has confirmed the lock.
//   - [RedisLockManager.Close] tells all holders, releases everything, and leaves no goroutine.
//   - Bad arguments are refused with [ErrInvalidArgument] before anything is sent.
//
// # Keys
//
// With the default prefix the lock of the resource r is the key cache:lock:{r}; beside it are cache:lock:{r}:fence (the
// token), and while somebody waits cache:lock:{r}:queue and cache:lock:{r}:seen. The braces keep them on one node of a
// cluster. The lock's value names the acquisition; a plus sign behind it says that somebody may be waiting. Managers listen
// on the channels cache:lock:inbox:*.
package lock
