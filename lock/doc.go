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
// ([ErrRedis]). It takes one round trip, and so do a refusal and [RedisLock.Release]; on several nodes a second one when
// they do not agree on the token yet, as after one of them has lost it. A held lock is renewed every third of its TTL until
// it is released or lost; thousands of locks are renewed in a few pipelines.
//
// # Wait
//
// [RedisLockManager.AcquireWait] queues until its context ends. Those who wait are served first come, first served, across
// processes. The release wakes the first of them and reserves the lock for it for a moment (1.5s; 200ms on several nodes,
// which may have different first waiters); others are refused meanwhile, and a plain Acquire as long as anybody waits. The
// message that wakes is a hint and no more: the waiter acquires as anybody does, and only the server's reply to that counts.
// So a message that is lost, late, or passed on by a server that is no master any more makes no second holder.
//
// Nobody depends on the message either. A waiter asks by itself 1.7s after it last heard of a question, its own or that of
// another waiter: one of all asks every two seconds, and if that one is gone another does. Each manager uses one pub/sub
// connection to each node, opened when somebody has to wait for the first time.
//
// # With lock
//
// [RedisLockManager.WithLock] waits, runs a function with a context that ends with the lock, and releases.
//
// # Settings of a call
//
// [RedisLockManager.With] returns a view of the manager with settings of its own: an owner that
// [RedisLockManager.Inspect] shows, a class that metrics show, a longest and a shortest time to hold, or no renewal.
//
//	cron := manager.With(lock.WithOwner(host), lock.WithHoldAtLeast(time.Minute))
//
// # Loss
//
// A holder is notified that its lock is lost before anybody else can get it: [RedisLock.Lost] is closed and
// [RedisLock.Context] canceled, with the cause [ErrLockExpired], [ErrLockStolen] or [ErrManagerClosed]. The time counts
// from before the last confirmed call was sent, less 1% and 2ms for clocks, less a guard of a tenth of the TTL (at most
// 500ms); a timer ends the lock, which waits for no call. [RedisLock.IsHeld] compares the clocks itself. A lost lock is never
// revived. No library can stop a holder that ignores the notice, or a process that is suspended just then: that is what
// tokens are for.
//
// Timers stand still while a machine is suspended. Afterwards IsHeld, Refresh and Release know by the wall clock that the
// time is up, and Lost and Context with the next renewal. So a lock also ends when the wall clock is set forward by
// as much as it has left.
//
// # Fencing
//
// Every acquisition has a token, see [RedisLock.Token], larger than all earlier ones of the same resource. Pass it
// along with writes, and let the store refuse a token smaller than the largest it has seen:
//
//	UPDATE account SET balance = $1, fence = $2 WHERE id = $3 AND fence <= $2
//
// On one server a token is its clock in microseconds, or one more than the last token where that is larger: tokens grow on
// after the counter was lost, or has come back from a snapshot or a replica that was behind, as long as clocks do not step
// back meanwhile. On several nodes they are counted, from the clock of one of them on. A counter that was not used for a
// day is forgotten.
//
// # Quorum
//
// With [WithNodes] a lock lives on several independent masters and is held when a majority has granted it, as Redlock
// describes. All are asked in parallel, and the answer is there when the majority has decided: a minority that is down
// costs no time, unless those that answer are split between several who acquire. Then it is waited for as long again as
// they took, at least 50ms; a node that has been silent for that time already, though it owes answers, counts as down. A node
// that is late may refuse the next one for a moment; waiting copes with it. The token is
// the largest that a granting master gave, and is on a majority before the holder sees it.
//
// A master that was restarted empty gets the locks back that a majority confirms, with their next renewal or Refresh. Until
// then it grants them to anybody, so that two could have a majority: a master that may have lost its data has to stay away
// for as long as the longest TTL. A master that has failed to grant, extend or set a lock is asked again by itself: after
// 3s, or a third of the TTL if that is shorter, and then less and less often, up to every third of the TTL, also if the lock
// is not renewed. It does not count for the lock before the next renewal or Refresh, when it has confirmed that it has the
// lock, and has extended it like the others; nothing else moves the end of a lock.
//
// A split is a refusal, ErrLockNotAcquired, whether all masters have answered or only a majority of them: the resource is
// contended, though perhaps nobody has it. ErrRedis is left to mean that no majority has answered.
//
// # What no client can see in time
//
// A holder is notified with the next renewal, a third of the TTL later at most, when Redis has lost the lock behind its back.
// Somebody else may hold it until then, with a larger token. Where that matters let the store refuse smaller tokens, or
// use a quorum, and keep the TTL short.
//
//   - A failover: Redis replicates after it has answered, so a replica that becomes the master may not know the lock.
//     Those who wait ask again when they have reconnected; the lock is theirs only when the new master says so. With Sentinel
//     a former master may live on; renewals leave it within a second of what Sentinel says, so that its holder is notified a
//     second and a third of the TTL later at most. While one of the Sentinels hangs that becomes two seconds and two thirds
//     of the TTL with a client of package client; others may ask the one that hangs for as long as it does.
//   - A restart from an old snapshot, or without one: the same. Use AOF, or stay away for as long as the longest TTL.
//   - Eviction: a maxmemory-policy other than noeviction may remove locks, tokens and queues. Set noeviction.
//   - The server's clock steps forward: keys expire early. Let NTP slew it.
//   - Keys that are deleted by hand, FLUSHALL.
//   - Several nodes that are not the same for all: a majority of the old ones and one of the new ones need not overlap.
//     Stop all users before you change the nodes.
//
// # Metrics
//
// [RedisLockManager.Collector] exports, all with the label cache (see [WithName]):
//
//   - cache_lock_acquisitions_total{class,outcome}: tries; outcome is acquired, refused, canceled (also by Close) or error
//   - cache_lock_wait_seconds{class}: histogram of the time from the call to the lock
//   - cache_lock_hold_seconds{class}: histogram of the time from acquisition to release or loss
//   - cache_lock_held: locks held now
//   - cache_lock_waiting: callers that wait now
//   - cache_lock_releases_total, cache_lock_release_errors_total: releases of held locks
//   - cache_lock_refreshes_total, cache_lock_refresh_errors_total: explicit refreshes
//   - cache_lock_renewals_total, cache_lock_renewal_errors_total: automatic renewals
//   - cache_lock_lost_total{class,cause}: losses; cause is expired, stolen or closed
//   - cache_lock_hand_offs_total: releases that reserved the lock for a waiter
//
// The class is what [WithClass] says, "" without it.
// [RedisLockManager.GetMetrics] returns the same numbers as a struct, of all classes together.
//
// # Failure
//
//   - Redis down: Acquire fails within the node timeout ([WithNodeTimeout]) with ErrRedis. Held locks are lost on time.
//     A client must heed the deadlines of contexts (redis.Options.ContextTimeoutEnabled) for its connections to be freed
//     as fast; calls return in time in any case.
//     One that does not needs a read timeout (redis.Options.ReadTimeout; 3s unless it is set, none if it is negative).
//     Without any a reply that the network loses holds one of a manager's four senders to a server until the connection
//     breaks, and when all four are held no call to that server succeeds.
//   - One master of a cluster hangs: the locks on it are lost on time, those on the others are renewed, acquired, waited for
//     and released meanwhile. A slot that moves is waited for within the node timeout.
//   - A command whose fate is unknown is undone in the background, so that an Acquire that failed leaves no key. A lock
//     lasts for 10s at first, however long its TTL; so does a key that a command leaves which arrives too late for that.
//   - The application's pool is used up: held locks are renewed all the same, on a connection of their own, on which hooks
//     of the client do not run; see [NewRedisLockManager]. Where none can be opened, as the server has too many, no
//     Sentinel answers, or packets are lost, they are renewed on connections of the application that are idle just then, or
//     else through the client. Where opening one hangs, that is after the first renewal has failed for it, which may be too late
//     for a TTL of 2s or less; and connections that one caller uses without a pause are never seen idle.
//   - A firewall has forgotten connections: a renewal that hangs on one holds up no other. It is repeated after a sixth of
//     the TTL, but 250ms at least and 2s at most, on another connection, also while one of several nodes is down.
//   - A holder that dies delays the others by its TTL. Once the lock is free a waiter that has died, queue keys that are
//     lost, or a message that does not arrive, delays the next holder by about two seconds at most; one who only tries, by
//     about three, when all who waited have died.
//   - A hook of a client that panics, or ends its goroutine, is a matter of the caller; in the background it is logged, and
//     a failure of Redis.
//   - [RedisLockManager.Close] notifies all holders, releases everything, and leaves no goroutine.
//   - Bad arguments are refused with [ErrInvalidArgument] before anything is sent.
//
// # Keys
//
// With the default prefix the lock of the resource r is the key cache:lock:{r}, which contains the holder's value, "#" and
// the number of the try that has set it; beside it are cache:lock:{r}:fence (the token), and while somebody waits
// cache:lock:{r}:queue, and after a release cache:lock:{r}:next. The braces keep them on one node of a cluster. Managers
// listen on the channels cache:lock:inbox:*.
//
// # Internals
//
// A [RedisLockManager] talks to a store: one Redis (internal/store), or a quorum of them (internal/quorum), which asks all
// of its nodes in parallel, through redsync where it acquires, releases or refreshes. Each try to set a lock has a value of
// its own, and only one that the server has confirmed is ever extended: whatever else arrives, late or twice, ends with its
// first grant. The keeper makes a lock of what the store has granted; the lock ends itself in time (lease.go), and the
// renewer has the store extend all locks that are due. The queue has a contender for each resource that callers of the
// process wait for, which asks the store on behalf of all of them; the inbox brings it the messages.
package lock
