-- Takes a lock if it is free, in one round trip with its fencing token. Idempotent: a client that lost the reply may
-- send it again with the same value.
--
-- KEYS  1 lock   2 fence
-- ARGV  1 value  2 TTL of the lock, ms  3 there if this may have been executed before
-- Reply the token, above 0, if the value holds the lock now;
--       otherwise -1 - the remaining TTL of the other holder, ms.
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  if not ARGV[3] or not is(redis.call('GET', KEYS[1]), ARGV[1]) then
    return -1 - math.max(redis.call('PTTL', KEYS[1]), 0)
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  local token = redis.call('GET', KEYS[2])
  if token then
    return tonumber(token)
  end
end
