// Package near keeps values in the process, and knows until when they may be trusted.
//
// A [Cache] holds values under the keys that they have in Redis. A [Tracker] hears which of these keys change, and says
// up to which instant it has heard everything. A value is served only while that instant is younger than the cache's
// MaxStaleness. So what Get returns was in Redis at some time within MaxStaleness before the call, whatever is cut,
// half-open, frozen or failed over: what goes wrong makes values useless, never old.
//
// # Reads
//
// What was read from Redis is put like this, so that a change that was heard in between drops it:
//
//	if hit, ok := c.Get(key); ok { return hit.Value }
//	mark := c.Begin(key)
//	value := …                       // asks Redis
//	c.Put(mark, key, value, size, fresh)
//
// # Sessions
//
// The tracker has one session for each master: a connection that is subscribed, and another for questions. The first asks
// for invalidations by CLIENT TRACKING ON BCAST, which cover every change by anybody, expiry, eviction and FLUSHALL, but
// not SWAPDB. In rounds, three in each MaxStaleness, the session asks by the second connection whether it is still where
// it should be, and sends a PING by the first. Redis writes the reply to a PING before the invalidations of what it
// executed in the same turn of its event loop. The reply to the next PING, which is not sent before the first was answered,
// comes after them: with it everything is known up to the beginning of the round before.
//
// A session ends when anything fails: a connection breaks, no answer comes within MaxStaleness, the server is no master any
// more, or the sentinels name another. Then no value is served. When all masters have a session again the caches are
// emptied, and what is read from then on may be served. In a Cluster that is so for all keys, whichever master has ended
// its session: while a slot moves, a key may be on either of two.
//
// Where sentinels name the master, each round opens a connection to the server they name, looks at its address and closes
// it. In a Cluster each round compares the masters that the node knows with those that have a session.
//
// # Servers without tracking
//
// Where CLIENT TRACKING or RESP3 is refused, as by miniredis or for a user without the permission, the session listens to
// Settings.Channel: those who write publish each key there, or nothing for all keys. That covers neither eviction nor writes
// by other programs, but their age stays bounded by the time that each value is fresh.
//
// # Time
//
// Only durations are measured here, on the monotonic clock. It stands still while the machine sleeps on some systems; the
// connections hardly survive that.
//
// # Goroutines
//
// Two for each master, one more in a Cluster, none for keys or callers.
package near
