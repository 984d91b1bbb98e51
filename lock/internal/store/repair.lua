-- Sets a lock on a server that does not have it, such as one that was restarted empty, or is not known to, while a majority
-- of the others confirms it. The fence comes along, and first: should that fail, nobody holds the lock.
--
-- KEYS  1 lock  2 fence
-- ARGV  1 claim  2 number of the try  3 TTL, ms  4 token
-- Reply 1 if the claim holds the lock on this server now by this try, else 0.
local held = redis.call('GET', KEYS[1])
local before = try_of(held, ARGV[1])
if held and not before or before and before > tonumber(ARGV[2]) then
  return 0
end
if tonumber(redis.call('GET', KEYS[2]) or 0) < tonumber(ARGV[4]) then
  redis.call('SET', KEYS[2], ARGV[4], 'PX', 86400000)
end
redis.call('SET', KEYS[1], ARGV[1] .. '#' .. ARGV[2], 'PX', ARGV[3])
return 1
