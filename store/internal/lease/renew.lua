-- Makes a lease last longer.
--
-- KEYS  1 lease
-- ARGV  1 token  2 TTL, ms
-- Reply {'renewed'} | {'refused'} it is over
if not holds(redis.pcall('GET', KEYS[1]), ARGV[1]) then return {'refused'} end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'renewed'}
