-- Takes a lock if it is free, in one round trip with its fencing token. Idempotent: a client that lost the reply may
-- send it again with the same value.
--
-- KEYS  1 lock   2 fence
-- ARGV  1 value  2 TTL of the lock, ms  3 there if one of these is needed: 1 if this may have been executed before, else 0
--       4... values that the client has given up, whose release may be under way still: they do not hold the lock
-- Reply the token, above 0, if the value holds the lock now;
--       otherwise -1 - the remaining TTL of the other holder, ms.
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  local held = ARGV[3] and redis.call('GET', KEYS[1])
  if ARGV[3] == '1' and is(held, ARGV[1]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    local token = redis.call('GET', KEYS[2])
    if token then
      return tonumber(token)
    end
  else
    local value
    for i = 4, #ARGV do
      if held == ARGV[i] then
        value = ARGV[1]
      elseif held == ARGV[i] .. mark then
        value = ARGV[1] .. mark -- those who wait do so still
      end
    end
    if not value then
      return -1 - math.max(redis.call('PTTL', KEYS[1]), 0)
    end
    redis.call('SET', KEYS[1], value, 'PX', ARGV[2])
  end
end
