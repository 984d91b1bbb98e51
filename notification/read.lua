-- Reads events from the journal. A script because a cluster client may send a plain XRANGE to a replica, which may
-- not have the last events yet; scripts go to the master.
--
-- KEYS[1]  the journal, a stream
-- KEYS[2]  the origin, a string that marks the data set
-- ARGV[1]  first ID, as for XRANGE
-- ARGV[2]  last ID, as for XRANGE
-- ARGV[3]  how many at most
--
-- Reply    the origin, or an empty string, and the reply of XRANGE: together they tell whose events these are

return {redis.call('GET', KEYS[2]) or '', redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])}
