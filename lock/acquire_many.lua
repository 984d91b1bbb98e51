-- Takes locks, each if it is free, as acquire.lua does for the first time.
--
-- KEYS  for each lock: lock, fence
-- ARGV  for each lock: value, TTL of the lock in ms
-- Reply for each lock the token, above 0, if the value holds it now; otherwise -1 - the remaining TTL of the other holder, ms;
--       or the error of Redis.
local replies = {}
for i = 1, #KEYS, 2 do
  local lock, reply = KEYS[i], nil
  local taken = redis.pcall('SET', lock, ARGV[i], 'NX', 'PX', ARGV[i + 1])
  if not taken then
    reply = -1 - math.max(redis.call('PTTL', lock), 0)
  elseif taken.err then
    reply = taken
  else
    local fine
    fine, reply = pcall(next_token, KEYS[i + 1])
    if not fine then
      redis.call('DEL', lock)
      reply = redis.error_reply(reply)
    end
  end
  replies[#replies + 1] = reply
end
return replies
