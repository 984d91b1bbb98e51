-- Takes locks, each if it is free, as acquire.lua does for the first time. What fails for one does not end the run: the
-- others would not know whether they have theirs.
--
-- KEYS  for each lock: lock, fence
-- ARGV  for each lock: value, TTL of the lock in ms
-- Reply for each lock the token, above 0, if the value holds it now; otherwise -1 - the remaining TTL of the other holder, ms;
--       or the text of Redis' error.
local replies = {}
for i = 1, #KEYS, 2 do
  local lock, reply = KEYS[i], nil
  local taken = redis.pcall('SET', lock, ARGV[i], 'NX', 'PX', ARGV[i + 1])
  if not taken then
    local left = redis.pcall('PTTL', lock)
    reply = type(left) == 'number' and -1 - math.max(left, 0) or left
  elseif taken.err then
    reply = taken
  else
    local fine
    fine, reply = pcall(next_token, KEYS[i + 1])
    if not fine then
      redis.pcall('DEL', lock)
    end
  end
  replies[#replies + 1] = plain(reply)
end
return replies
