// Package store keeps typed values in Redis: [State] for what must not be lost to a race, such as the state of a workflow.
// A [Store] is what they share on one Redis: a single server, the master that Sentinels know, or a Cluster.
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
// token of each key, and refuses smaller ones with [ErrFenced], also for a day after the value was deleted or has expired. A
// write without a token is not refused, and keeps the largest one.
//
//	_, err := workflows.Put(ctx, id, w, store.WithFence(l.Token()))
//
// # Requests that come twice
//
// Of all who [State.Create] the same key one succeeds; the others get [ErrExists], with what the first has written.
//
// # How long values last
//
// For always, unless [WithTTL] says otherwise, for a State or for one write. A write without a TTL makes the value last for
// always again, but for Update, which leaves the time as it is. With [WithSliding] values that are read stay.
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
// A failure to connect is no uncertainty if it is known as one: of the package net, or of the client of this module. Other
// dialers' errors, and connections that break during the handshake, look like a lost reply.
//
// # Values
//
// They are encoded as JSON, or by the [Codec] of [WithCodec], may be compressed ([WithCompression]), and are limited to 1 MiB
// ([WithMaxSize], [ErrTooLarge]). What something else has written under a key, or another codec, is [ErrCodec]: it is
// neither overwritten nor deleted. Errors, and what fmt prints, show keys and no values.
//
// # Metrics
//
// [Store.Collector] exports, all with the labels cache (see [WithName]) and name, that of the State:
//
//   - cache_store_state_calls_total{op,outcome}: calls; outcome is ok, not_found, conflict, fenced, uncertain, too_large,
//     codec, unavailable, canceled or error, as for a panic of the caller's function
//   - cache_store_conflicts_total: writes that found another version, those that Update repeats included
//   - cache_store_oversize_total: values that were too large
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
//     the last one.
//   - Bad arguments are refused with [ErrInvalidArgument] before anything is sent.
//
// # Keys
//
// With the default prefix the value of the key k in the State named n is the Redis key cache:v:n:{k}; with [WithGroup] it is
// cache:v:n:{group}:k. A key that begins with "}" or "%" gets a "%" in front; in a group they are written %7D and %25. The content is a line of text and the encoded
// value, so that redis-cli shows what is known of it:
//
//	cs1 <kind><codec><compression> <version> <until>[+<ttl>] <fence> <write> <tags>
//
// kind is s, or d for what remains of a deleted value: for a day if it has a fence, and otherwise for some seconds, so that
// the repetition of the delete is recognised. Times are microseconds of the server's clock, ttl is in milliseconds.
//
// # Internals
//
// internal/entry is the content of a key, for Go and for Lua. internal/server is one Redis: reads of concurrent callers
// leave together, with one question for the time; each write is a script. What is here makes calls, errors and types of
// that.
package store
