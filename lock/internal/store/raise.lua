-- Raises the fence to a token, where the claim holds the lock: the tokens of another holder are not our business.
--
-- KEYS  1 lock  2 fence
-- ARGV  1 claim  2 token
-- Reply 1 if the claim holds the lock and the fence is at least the token, else 0.
if not try_of(redis.call('GET', KEYS[1]), ARGV[1]) then
  return 0
end
if tonumber(redis.call('GET', KEYS[2]) or 0) < tonumber(ARGV[2]) then
  redis.call('SET', KEYS[2], ARGV[2], 'PX', 86400000)
end
return 1
