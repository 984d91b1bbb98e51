// Package notification publishes events and subscribes to them through Redis, for any number of subscribers over
// one connection, and loses none of them silently.
//
// # Publishing
//
// PublishWorkflowEvent and PublishTaskEvent publish an event to the channels below; Publish publishes any value that
// marshals to a JSON object to one channel, PublishBatch many events at once. Each call is one round trip.
//
//	event                              published to
//	workflow event with ID W           workflow:events, workflow:W
//	task event with ID T, workflow W   task:events, task:T, task:workflow:W
//	task event without a workflow      task:events, task:T
//
// The payload is the event's JSON with "event_id" and "time" added, and "traceparent" when the context carries a
// span. Any Redis client can read it with a plain SUBSCRIBE. An event is kept in the journal, a stream that is
// capped by number and expires (WithHistory), and its ID is its place there.
//
// # Subscribing
//
// Subscribe listens to a channel, or to a glob as PSUBSCRIBE knows them. It returns once Redis has confirmed, so
// that nothing published afterwards is missed. An event that a glob matches on several of its channels arrives once.
// What other programs publish on the channels arrives as it is. Decode turns a payload into a type, and Handle does
// so in a loop that survives its handler's errors and panics.
//
// A message is shared between all subscriptions to the same name and must not be changed.
//
// # Gaps
//
// After a cut connection, a restart or a failover, missed events are read from the journal and delivered in order.
// Where some may be lost for good, the subscription says so: at once through Gaps, and in its place by Message.Gap.
// GapReason lists why: the journal was trimmed, wiped or rolled back, another server took over, foreign programs
// publish to the channel, history is off, or the subscriber was too slow for a policy that drops.
//
// The place is exact but for one case. What a failover, a restart or a loss of data has cost was published last before it. A
// subscription that had not come so far gets what is left of that time, and not even Redis knows where in it something is missing.
// Its gap is open: the first message that may be behind what is lost carries it with an empty Gap.Before, and the first
// one that certainly is carries it once more. In between events may be missing anywhere. What a former master accepts
// after a subscription has gone on to the new one, from publishers that have not noticed yet, is lost without another gap.
//
// # Slow subscribers
//
// Each subscription has a buffer of its own (WithBufferSize), so nobody waits for anybody. When it is full, the Policy
// acts: PolicyReplay leaves live delivery and reads on from the journal as room appears, PolicyDropOldest and
// PolicyDropNewest drop, PolicyDisconnect closes the subscription. What is dropped is counted and reported as a Gap. With
// PolicyReplay that is only what other programs publish, as it is in no journal.
//
// All that are behind are served by one reader: it reads each part of the journal once, for everybody who needs it, and their
// messages are the same ones.
//
// # Resuming and draining
//
// A program that stores Message.EventID after handling a message can go on from there after its own restart with
// SubscribeFrom. Replay iterates over the journal without subscribing. Drain waits until everything that was published
// before is taken from the buffers; Close and Shutdown do so within half of their time.
//
// # Sharing work
//
// Consume shares the events of a channel or glob among all processes that name the same group, and hands each to the
// function of one of them, at least once: an event is done when the function returned nil, and comes again if it failed, if
// its process died, or if that stopped in the middle. After five attempts (WithMaxAttempts) it goes to the dead letters,
// which DeadLetters iterates over. A function has to bear being called twice for one event: when a process is cut off from
// Redis for longer than WithClaimAfter while it works on it, or when Redis fails over and forgets that it was done.
//
// One process of the group reads the journal for all, and gives what matches to the group, whose copy is what functions
// get. Another one takes that over within ten seconds. So an event costs the server one reading, one copy and one hand-out,
// however many processes there are, and one that does not match a share of a reading. The group holds up to 10,000 events or
// 16 MB; what is behind that stays in the journal for as long as that keeps it.
//
// A process whose functions are busy does not keep others waiting, but one that is frozen keeps its event for
// WithClaimAfter. Times are those of the server's clock; if that is set back, what was put off is due within twice the longest
// time that anything of the group was ever put off for, by WithBackoff or WithClaimAfter, and if it leaps ahead, events are handed
// out a second time. A group has no end: to remove one, stop its members and delete the keys "progress", "events", "due",
// "wake" and "dead", each behind "<key prefix>{notification}:group:<group>:". With a channel prefix that is
// "<key prefix>{notification}:<channel prefix>:group:<group>:". Do not delete all that begins so: the keys of a
// group "mail:urgent" begin as those of "mail" do. Those with "turn:" in that place expire by themselves after ten minutes.
// The keys of a group are evicted by the allkeys policies only; what is lost
// then is reported as GapWiped, unless all of it goes at once while no process is there.
//
// Beside what package client lists, Consume needs the commands
//
//	+hget +hset +hsetnx +hdel +hmget +hlen +hkeys +hexists +hstrlen +hincrby
//	+zrangebyscore +llen +rpush +blpop +xread +multi +exec
//
// # Failures
//
//   - Redis down: publishing fails with a *PublishError; subscriptions reconnect with growing pauses, at most a
//     second apart, and recover. HealthCheck fails meanwhile, Alive does not.
//   - A half-open connection: no heartbeat comes back for three intervals (9 seconds), and it is replaced.
//   - A pool whose connections are all in use: heartbeats, recovery and reading the journal have connections of their own.
//   - A lost reply to a publish: it is repeated, and the script knows by its number that the event was published, at the
//     cost of a first attempt however long the journal is. An attempt that was held up in the network does nothing when it
//     arrives, if its repetition or a later event of the publisher has come before it. What is repeated while Redis fails over
//     may have been published before; Message.Redelivered says so. Without history nothing is repeated;
//     PublishError.Uncertain tells that it may have been published, or still be so, behind later events.
//   - Events so large, or a network so slow, that a part of the journal does not arrive: smaller parts are asked for, down to
//     one event. If that does not arrive in three attempts, which take three heartbeat intervals at least, it and those
//     behind it are skipped: GapUnreadable.
//   - A journal that is deleted, evicted or trimmed while the rest of the data stays: what somebody had still to read of it is
//     GapTrimmed. Offsets in the event IDs tell, so no clock matters, and an idle journal that expires is no gap. Nor is the
//     loss of its state, a small hash beside it, while the journal itself is there.
//   - A restart without data: GapWiped. With data GapRestarted, since the last events may not have been written to disk. A
//     failover: GapFailover, since replication is asynchronous. GapRolledBack if events are known to be missing. A slot of a
//     Cluster that moves loses nothing, and is no gap. Data that is wiped under a connection that stays is a gap for
//     those that were behind; the others have got everything.
//   - A cluster or Sentinel failover: the connection follows the journal to its new master. In a cluster all keys
//     share a hash tag, and the connection is made to the node that owns it. That node tells when it loses the journal, by
//     ending a subscription to a sharded channel (Redis 7.0). Each connection is asked whether it leads to the server that
//     delivers. With Sentinel a former master may live on: groups leave it within 13 seconds of what Sentinel says,
//     subscriptions within 30 seconds and a heartbeat.
//   - A master that becomes a replica, or a replica that becomes the master, and keeps its connections, outside of cluster and
//     Sentinel: a heartbeat tells. While it has no link to its master, nothing is delivered; then what was published on the new
//     master is read from the journal. What came between is delivered first, in the order in which it came: what is missing may
//     be in front of that, and so up to a heartbeat interval before the gap. A subscriber that stays on a replica does not learn
//     what that skips when its own link breaks for less than a heartbeat and it takes a full copy of its master. The log warns of that.
//   - A master of a cluster that is frozen for so long that another takes its place: when it wakes up, it executes what was sent
//     to it before it learns of the failover, and the cluster carries that to all subscribers. Such an event is in no journal
//     and most likely a repetition, as its publisher had no reply: it is delivered without an EventID, and Message.Redelivered
//     is set.
//   - Events of another Redis with the same key prefix that somebody publishes here as they are, event_id in front: those that
//     do not fit behind ours in the journal arrive as foreign messages, or, in a cluster that has failed over, as the late ones
//     above. One that does fit makes the journal look rolled back (GapRolledBack), and ours look foreign until a
//     heartbeat tells. Another prefix on one side avoids that: then they are known for what they are, and warned of once.
//   - A journal that begins again with a clock that was set back, or that was wiped within the millisecond of its last event,
//     has event IDs that go backwards: it is looked at before anything of it is delivered.
//   - A server without INFO, or a user who may not call it: failovers are then noticed only if events are missing
//     in the journal. Without PUBSUB, nobody asks for the server of a connection. All scripts need EVALSHA and EVAL.
//     Publishing needs SET, DEL, HINCRBY, HSETNX, HGET, HSET, TIME, XADD, XDEL, XTRIM, XREVRANGE, PEXPIRE and PUBLISH;
//     reading MULTI and EXEC, HMGET, HSET, PTTL, PEXPIRE, XLEN, XRANGE and XREVRANGE; subscribing needs SUBSCRIBE and PSUBSCRIBE on the
//     channels and on the heartbeats, PUBLISH on these, UNSUBSCRIBE and PUNSUBSCRIBE, and SSUBSCRIBE in a cluster. A name
//     that is refused ends its own subscriptions. Without the heartbeats none is live, and HealthCheck says why; without
//     the commands that read the journal, events arrive live and nothing is recovered, which is a GapUnreadable.
//   - A script of somebody else that keeps Redis BUSY: as if Redis were down. PublishError.Uncertain is false if the server
//     says so to every attempt. That it does after busy-reply-threshold, 5 seconds by default; an attempt before that
//     times out if the client's ReadTimeout is shorter, and is uncertain.
//
// # Names in Redis
//
// With the default key prefix, "cache:{notification}:journal" is the stream, "cache:{notification}:state" what outlives it,
// "cache:{notification}:lane:<system>:<number>" what publishers did last, and heartbeats go through the channels
// "cache:{notification}:heartbeat:<system>:<connection>". Locks use the channels "cache:lock:inbox:<manager>", and a client's
// probes are empty messages on "cache:probe". A client that listens to "*" sees all of these; subscriptions of this package
// do not. Heartbeats and inboxes can neither be subscribed to by name nor published to.
//
// # Metrics
//
// Collector exports these, all with the label cache, the name of the instance (WithName):
//
//	cache_notification_published_total                 events published
//	cache_notification_publish_errors_total            events that could not be published
//	cache_notification_publish_duration_seconds        histogram of publishing, waiting in a batch included
//	cache_notification_delivered_total                 messages put into buffers
//	cache_notification_delivery_duration_seconds       histogram from publish, by the publisher's clock, to arrival
//	cache_notification_recovered_total                 of the delivered, those from the journal
//	cache_notification_dropped_total                   messages dropped because a subscriber was too slow
//	cache_notification_gaps_total                      gaps reported, by reason
//	cache_notification_handler_errors_total            messages a function failed on or could not decode
//	cache_notification_consumed_total                  events that a function of Consume has handled
//	cache_notification_consume_retries_total           failed attempts of Consume after which the event came again
//	cache_notification_consume_claims_total            events taken over from a process that gave no sign of life
//	cache_notification_dead_letters_total              events that Consume gave up
//	cache_notification_subscribe_errors_total          subscriptions refused or confirmed late
//	cache_notification_reconnects_total                connections replaced
//	cache_notification_subscribers                     open subscriptions
//	cache_notification_names                           channels and globs subscribed to in Redis
//	cache_notification_buffered_messages               messages in all buffers
//	cache_notification_buffer_use_ratio                fill level of the fullest buffer
//	cache_notification_replaying_subscribers           subscriptions catching up from the journal
//	cache_notification_heartbeat_age_seconds           time since a heartbeat last came back or the first was due
//	cache_notification_journal_seconds                 age of the journal's oldest event, up to a heartbeat and 10s late
//
// # Internals
//
// The way of an event:
//
//	publish.go        checks it
//	internal/publisher
//	  event.go        writes its JSON
//	  publisher.go    sends it together with those of other callers, and alone when there are none
//	  send.go         sends it, and again if the reply is lost; lanes.go keeps what was executed from being executed again
//	  append.lua      appends it to the journal and publishes it to its channels, all in one step
//	internal/feed     reads it from the one subscribing connection, and calls the
//	dispatcher.go     which recognises copies and offers it to the subscriptions of its name (topics.go)
//	policy.go         puts it into a buffer, or does what the policy says
//
// When the connection was cut, or a heartbeat shows that the journal is not what it was, recovery.go has internal/journal
// compare the two, and sets every subscription behind: to the event that all have got. From there catchup.go reads the
// journal for them, in parts (parts.go), as it does for those whose buffer was full. It goes no further than the connection
// has come (frontier.go), and a subscription that has come as far is live again (behind.go). After a change of the journal
// a ring of the last events that were delivered tells which of its events are new (ring.go).
//
// Four goroutines do all this, whatever the number of subscriptions: three of the feed, of which the one that reads is the
// dispatcher, and the catch-up.
package notification
