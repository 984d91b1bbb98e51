// Package store keeps typed values in Redis: [State] for what must not be lost to a race, such as the state of a workflow, and
// [Cache] for what can be loaded again. A [Store] is what they share on one Redis: a single server, the master that Sentinels know, or a Cluster.
//
//	s, err := store.New(client) // a *redis.Client, *redis.ClusterClient, ...
//	defer s.Close(ctx)
//	workflows, err := store.NewState[Workflow](s, "workflows")
//
// # State
//
// [State.Get] returns an [Item]: the value, its [Version] and its age. [State.Put] and [State.Create] write one,
// [State.Delete] and [State.Touch] do what they say; each takes one round trip. No value is [ErrNotFound], and is never
// confused with a zero value, an empty one or a JSON null.
//
//	item, err := workflows.Get(ctx, "invoice-7")
//	version, err := workflows.Put(ctx, "invoice-7", w, store.WithTTL(24*time.Hour))
//
// # Two editors
//
// A write that depends on what its caller has read says so: with [IfVersion] it fails with a [*ConflictError], which has
// the current item, if somebody else has written meanwhile. [State.Update] is the loop around that. Versions of a key grow,
// and do not come back after a delete or when the value expires.
//
//	item, err := workflows.Update(ctx, "invoice-7", func(w *Workflow) error {
//		w.Done = append(w.Done, step)
//		return nil
//	})
//
// # A worker that lost its lock
//
// With [WithFence] a write carries the fencing token of the lock that protects the value. A State remembers the largest
// token of each key, and refuses smaller ones with [ErrFenced], also for a day after the value was deleted or has expired. So a
// late worker is refused once the next holder has written with its own token, and not before. A write without a token is never
// refused, and keeps the largest one.
//
//	_, err := workflows.Put(ctx, id, w, store.WithFence(l.Token()))
//
// # Requests that come twice
//
// Only one [State.Create] of a key succeeds; the others get [ErrExists], with what is there by then. That says that the work
// was begun, and not that it was done: let the value say so.
//
// # How long values last
//
// Forever, unless [WithTTL] says otherwise. A write begins its own TTL, else the State's, else none; Update keeps the remaining
// time if neither is set. With [WithSliding] values that are read stay.
//
// # Lists
//
// [State.List] yields the items whose keys begin with a prefix. It takes pages from Redis, and is no snapshot.
//
// # Uncertain writes
//
// A connection can break after a command was sent. The write is repeated then, in a way that never does it twice: each has
// an ID, by which a repetition finds that its first try was done. If it finds something else the first try may have been
// done and overwritten since, or never have arrived: a write that expects a version is done by the repetition if that
// version is still there, and any other outcome is [ErrUncertain], alone or with [ErrUnavailable]. The same goes for a
// caller whose context ends before the reply comes. The write may have been done then, and may even be done yet, if the
// network delivers it late. Read to find out, or use IfVersion with a version that was read: it makes a late write harmless,
// as no version comes back. That there is nothing does come back: a late [State.Create], or Put with IfVersion(0), writes
// if the value has been deleted meanwhile.
//
// A failure to connect is no uncertainty if it is known as one: of the package net, or by a method Unsent that returns true.
// Other dialers' errors, and connections that break during the handshake, look like a lost reply.
//
// # Cache
//
// [Cache.GetOrLoad] returns a value, and loads it if there is none: of all callers in all processes that miss a key at the
// same time one runs its loader, and the others wait for a message that the load has ended. A failure is shared too, and for
// a second nobody tries again ([WithFailurePause]), except after a panic or without Redis. Those who wait in the process that
// loads get the error itself; other processes, and callers during the pause, get [ErrLoad], with its text if
// [WithSharedErrors] is given. [Cache.LoadMany] loads what is missing of several keys by one call.
//
//	products, err := store.NewCache[Product](s, "products", store.WithTTL(10*time.Minute))
//	p, err := products.GetOrLoad(ctx, id, func(ctx context.Context) (Product, error) { return db.Product(ctx, id) })
//
// The loader's context is nobody's: a caller that gives up spoils nothing for others. It ends after 30s ([WithHardTimeout]).
// A loader that panics is [ErrPanic] for all who wait. It must not ask for its own key, for which it would wait.
//
// After [Cache.Set], [Cache.Delete], [Cache.InvalidateTag] or [Cache.Clear] nothing is stored that was loaded before, and no
// caller that comes after it gets such a value from those who load. So a program that changes its database deletes the key
// afterwards:
//
//	if err := db.Save(ctx, p); err != nil { ... }
//	err := products.Delete(ctx, p.ID) // if this fails it is repeated until Redis answers
//
// # What a Cache does when something fails
//
//   - The loader fails: a value past its TTL is returned if [WithStale] keeps it. [Cache.GetOrLoadItem] says so, and why.
//   - The loader takes long: the same after [WithSoftTimeout], while the load goes on.
//   - Redis is down or silent: callers lose 250ms, counted from its last answer to this process, and 2s at most, as where one
//     connection of several is half open ([WithTimeout]); after three failures in a row they lose nothing, and one of them tries
//     again each second. Those whose contexts end sooner count as failures once Redis has been silent for 250ms while it was asked.
//     Loaders run without Redis then, 32 at a time in a Store, where one of LoadMany counts as
//     one; others wait, and get [ErrOverloaded] when their context or the soft time-out ends. What they load is not stored in
//     Redis; a near cache has it for 5s. The stale values of WithStale are in Redis too, so only a near cache has any then.
//     Callers who come while such a loader runs take its value if Redis still does not answer when it ends. So what other
//     processes have written or deleted meanwhile is unknown to a process that alone is cut off from Redis, and to no other.
//   - Redis refuses commands, for lack of memory or as a replica: loaders run as if it were down, but it is asked before each of
//     them. That takes some 120ms on a replica, or while the server loads its data, as the client asks several times.
//   - The process that loads dies: others wait for two seconds at most, and if it was only stopped, it stores nothing when it
//     goes on. A message that is lost costs as much.
//   - A Delete, or a Set, that Redis does not confirm: an error, and the key is deleted when Redis answers again, unless the
//     process has ended by then.
//
// [WithNegative] also caches that a value does not exist. [WithEarly] has a hot key loaded again before its TTL ends.
//
// # Many values at once
//
// Values can have tags ([WithTags]), of the Cache or of the call that stores them. [Cache.InvalidateTag] makes all values with a
// tag as good as deleted, in one round trip, however many there are. A tag has an epoch, a random ID in a key of its own that
// is made when it is needed; values carry the epochs of their tags as they were before the load, and count only while these are
// there. So a value whose epoch was lost, by FLUSHALL, eviction or time, is loaded again, and none ever becomes valid again.
// [Cache.Clear] deletes all values; it has to look at all keys in Redis.
//
//	v, err := pages.GetOrLoad(ctx, url, render, store.WithTags("author:"+author))
//	err = pages.InvalidateTag(ctx, "author:"+author) // after the change is in the database
//
// # Near cache
//
// With [WithNear] values that were read from Redis stay in the process, and the next calls have them without a round trip:
//
//	products, err := store.NewCache[Product](s, "products", store.WithNear(10_000, time.Second), store.WithShared())
//
// While Redis answers, what comes from there ([SourceNear]) was in Redis at some time within maxStaleness before the call. When
// Redis fails, a value within its TTL, or beyond it by no more than [WithStale], is returned as stale, however long ago it was
// read; only [Cache.GetItem] and [Cache.GetOrLoadItem] say so. The near cache is off by default; 10,000 entries are a good
// choice, as are the 64 MiB that they may take ([WithNearBytes]).
//
// The Store has Redis say which keys change, by connections of its own, and knows up to when it has heard everything; while that
// is too long ago, as a connection is cut, half-open or frozen, or the master has changed, calls ask Redis as if there were no
// near cache. That covers Set, Delete, InvalidateTag, loads and Clear of all processes, expiry, eviction, FLUSHALL and writes by
// other programs. In the process that writes, calls of the same Cache never get from the near cache what was there before the
// write.
//
//   - Not covered are SWAPDB, and values that a client reads from a replica, which may be older.
//   - What was loaded without Redis is served from there for 5s, and after that only when the loader fails.
//   - Each value counts by its encoded size, its key and 240 bytes more, and at least as the limit of bytes divided by the
//     number of entries, so neither limit is exceeded.
//   - A value is decoded for each caller, unless its type has no pointers, or [WithShared] or [WithClone] is given. With
//     WithShared a hit allocates nothing.
//   - Make Caches when the program starts: one more near cache empties the others, and lasts as long as the Store.
//
// Where the server does not track keys (without RESP3, or for a user who may not use CLIENT TRACKING), those who write publish
// the names of keys on the channel cache:near, if somebody listens. Then eviction and writes by other programs are not covered,
// and what they change is returned until its TTL ends. In a Cluster a near cache needs the permission for CLUSTER MYID. Without
// that for PUBSUB NUMSUB names are always published.
//
// # Values
//
// They are encoded as JSON, or by the [Codec] of [WithCodec], may be compressed ([WithCompression]), and are limited to 1 MiB
// ([WithMaxSize], [ErrTooLarge]). What something else has written under a key, or another codec, is [ErrCodec]: it is
// neither overwritten nor deleted. Errors, and what fmt prints, show keys and no values.
//
// # Metrics
//
// [Store.Collector] exports, all with the label cache (see [WithName]), those of one State or Cache with the label name:
//
//   - cache_store_state_calls_total{op,outcome}: calls; outcome is ok, not_found, conflict, fenced, uncertain, too_large,
//     codec, unavailable, canceled or error, as for a panic of the caller's function
//   - cache_store_conflicts_total: writes that found another version, those that Update repeats included
//   - cache_store_oversize_total: values that were too large
//   - cache_store_requests_total{source}: keys that a Cache was asked for; source is near, redis, loaded, stale, none or error
//   - cache_store_loads_total{outcome}: loads; outcome is ok, not_found, error, timeout or panic
//   - cache_store_load_seconds: histogram of the time that loaders took
//   - cache_store_lease_waits_total: keys for whose load in another process this one has waited
//   - cache_store_fills_refused_total: loaded values that were not stored, as somebody had written or deleted meanwhile
//   - cache_store_fills_failed_total: loaded values that Redis has not confirmed to have stored: others may load them again
//   - cache_store_stale_served_total{cause}: stale values that were returned; cause is load, timeout, panic or redis
//   - cache_store_cache_writes_total{op,outcome}: keys, tags and whole Caches that writes were about; op is set, delete,
//     invalidate_tag or clear, and outcome ok, uncertain, too_large, codec, unavailable, canceled or error
//   - cache_store_near_entries, cache_store_near_bytes: what near caches hold, by the sizes that count against their limits
//   - cache_store_near_invalidated_total: changes of keys that they have heard of
//   - cache_store_near_dropped_total: values that they did not take, as they had changed meanwhile
//   - cache_store_near_up, cache_store_near_age_seconds, cache_store_near_flushes_total: whether changes are heard, how old that
//     knowledge is (missing while there is none), and how often near caches were emptied, without the label name
//   - cache_store_breakers_open, cache_store_deletes_pending, cache_store_loads_without_redis: what is so just now, without
//     the label name
//
// # Failure
//
//   - Redis down or silent: a State waits for 2s ([WithStateTimeout]), repetitions included, then returns ErrUnavailable.
//     Callers follow their own contexts, whatever the client does.
//   - A failover: Redis replicates after it has answered, so a replica that becomes the master may not know the last
//     writes, or the largest token. Versions go on from what it knows, by its clock or one at a time.
//   - Eviction: a maxmemory-policy other than noeviction may remove values, versions and fences. Set noeviction.
//   - Redis has no memory left: writes are ErrUnavailable, deletes work.
//   - The server's clock decides what has expired, and the clocks of clients nothing. If it steps back, versions go on from
//     the last one, as long as the value is there, or what remains of its delete.
//   - Bad arguments are refused with [ErrInvalidArgument] before anything is sent.
//
// # Keys
//
// A key is any string that is not empty. With the default prefix the value of the key k in the State or Cache named n is the
// Redis key cache:v:n:{k}; with [WithGroup] it is cache:v:n:{group}:k. A key that begins with "}" or "%" gets a "%" in front; in
// a group they are written %7D and %25. The content is a line of text and the encoded value, so that redis-cli shows what is
// known of it:
//
//	cs1 <kind><codec><compression> <version> <until>[+<ttl>] <fence> <write> <tags>
//
// kind is v for a value of a Cache, a for the knowledge that there is none, s for one of a State, or d for what remains of a
// deleted value of a State: for a day if it has a fence, and otherwise for some seconds, so that the repetition of the delete
// is recognised. Times are microseconds of the server's clock; ttl, in milliseconds, is what the value was last written or
// touched with. tags are names and epochs, as in a=0123,b=4567, or - for none;
// the epoch of the tag a is in cache:t:n:{a}.
//
// # Internals
//
// internal/entry is the content of a key, for Go and for Lua. internal/server is one Redis: reads of concurrent callers
// leave together, with one question for the time; each write is a script. internal/lease decides which process loads, with a
// key cache:l:n:{k} and a channel cache:store:inbox:* for each process that waits; internal/wake is the messages.
// internal/near keeps values in the process and hears of changes, by CLIENT TRACKING or the channel cache:near.
// internal/load makes callers of one process share a load, and internal/breaker stops asking servers that do not answer. This
// package adds the public types, calls and errors.
package store
