-- Reads events from the journal. A script because a cluster client may send a plain XRANGE to a replica, which may
-- not have the last events yet; scripts go to the master.
--
-- KEYS[1]  the journal, a stream
-- KEYS[2]  the origin, a string that marks the data set
-- ARGV[1]  first ID, as for XRANGE
-- ARGV[2]  last ID, as for XRANGE
-- ARGV[3]  how many at most
-- ARGV[4]  channel that somebody listens to on the server that is meant, or an empty string for any server
--
-- Reply    the origin, or an empty string, which tells whose events these are; how many the journal has; and the reply of
--          XRANGE. An error if this is not the server that is meant. It looks like that of a master which became a
--          replica, so the client closes the connection that led here and looks for the master anew.

if ARGV[4] ~= '' and redis.pcall('PUBSUB', 'NUMSUB', ARGV[4])[2] == 0 then
  return redis.error_reply('READONLY the subscriptions are on another server')
end

local events = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
return {redis.call('GET', KEYS[2]) or '', redis.call('XLEN', KEYS[1]), events}
