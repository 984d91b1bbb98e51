-- Takes a lock if it is free and nobody waits for it.
--
-- KEYS  1 lock  2 fence  3 queue  4 reserved
-- ARGV  1 value  2 TTL, ms
-- Reply the token, above 0, if the value holds the lock now; otherwise -1 - the ms after which it may be free.
--
-- A client that lost the reply may send it again with the same value, and the first one may arrive after the second.
local held = redis.call('GET', KEYS[1])
if held == ARGV[1] then
  return next_token(KEYS[2])
end
if not held and may_take('') then
  return take(ARGV[1], ARGV[2])
end
return -1 - time_left()
