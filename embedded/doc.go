// Package embedded is an in-process Redis for tests, demos and examples: nothing
// to install, nothing to clean up, empty at every start. It is built on
// miniredis, made so that keys expire by the clock, that TTL and EXPIRETIME round as
// in Redis, and that publish/subscribe behaves like that of Redis.
//
// # In an application
//
// [Module] next to cache.Module is all:
//
//	fx.New(cache.Module, embedded.Module(), …)
//
// # As a plain server
//
// A new server works in memory at once, through [Server.Dial]:
//
//	server := embedded.New()
//	defer server.Close()
//	c, err := cache.SetupCache(ctx, server.Config())
//
// [Server.Start] opens a TCP port for clients that need an address.
//
// # In a testing/synctest bubble
//
// Make the server inside the bubble and use [Server.Dial] (Config and Module
// do), not Start. A whole application then runs on the bubble's clock, and an
// hour of expiry takes milliseconds. Close the clients and the server before the
// bubble ends.
//
// # What differs from Redis
//
// Tests of what is listed here need a real server.
//
//   - There are no INFO sections other than "clients" and "stats", hence no version
//     and no replication, and no ROLE, RESET, MONITOR, CONFIG, SLOWLOG, LATENCY, ACL,
//     SAVE, BGSAVE, LASTSAVE, REPLICAOF or functions. Of CLIENT there are SETNAME and
//     GETNAME, of OBJECT there is IDLETIME.
//   - There are no BITFIELD, LCS, SORT, SUBSTR, ZDIFF, ZINTERCARD and ZRANGESTORE.
//   - Times to live end after 292 years; a longer one is cut, or refused by Redis and
//     not here. Every database number can be selected, CLUSTER SLOTS answers though
//     there is no Cluster, and RESTORE takes any payload.
//   - There is no sharded publish/subscribe (SSUBSCRIBE, SPUBLISH) and there are no
//     keyspace notifications. (P)SUBSCRIBE within MULTI is refused, and a
//     subscribed connection accepts (P)SUBSCRIBE, (P)UNSUBSCRIBE, PING and QUIT
//     only, with RESP3 too.
//   - A blocking command such as BLPOP or XREAD BLOCK notices that its client
//     has gone only when it wakes up for another reason, and leaves what it would
//     have got. Clients that wait for the same key are served in random order, not
//     first come first served.
//   - Patterns of KEYS and SCAN become Go regular expressions; a class that these
//     do not know, such as "[z-a]", is a panic. Patterns of PSUBSCRIBE are globs
//     exactly as in Redis.
//   - Keys expire when the next command looks, and every command looks at every
//     key: with 1,000 keys it takes some 0.2 ms, with 10,000 some 2 ms.
//   - Nothing is evicted, persisted or replicated; there is no memory limit, no
//     password, no TLS, no Sentinel and no Cluster.
//   - Scripts run in another Lua implementation and cannot be interrupted by
//     SCRIPT KILL or a time limit.
package embedded
