-- Sets a lock on a server that does not have it, such as one that was restarted empty, while a majority of the others
-- confirms it. The fence comes along.
--
-- KEYS  1 lock  2 fence
-- ARGV  1 value  2 remaining TTL, ms  3 token
-- Reply 1 if the value holds the lock on this server now, else 0.
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then
  return 0
end
if not held then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
if tonumber(redis.call('GET', KEYS[2]) or 0) < tonumber(ARGV[3]) then
  redis.call('SET', KEYS[2], ARGV[3], 'PX', 86400000)
end
return 1
