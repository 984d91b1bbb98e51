-- The least a publish with a journal can do.
--
-- KEYS[1]  the journal, a stream
-- ARGV[1]  how many events the journal keeps, about
-- ARGV[2]  channel
-- ARGV[3]  payload
--
-- Reply    the event's place in the journal
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'd', ARGV[3])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return id
