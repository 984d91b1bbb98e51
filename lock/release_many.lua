-- Gives locks back, each as release.lua does. What fails for one does not end the run.
--
-- KEYS  for each lock: lock, fence, queue, seen
-- ARGV  for each lock: value
-- Reply for each lock as of release.lua, or the text of Redis' error.
local replies = {}
for i, value in ipairs(ARGV) do
  local first = 4 * i - 3
  lock, fence, queue, seen = KEYS[first], KEYS[first + 1], KEYS[first + 2], KEYS[first + 3]
  local held = redis.pcall('GET', lock)
  if held == value then
    replies[i] = plain(redis.pcall('DEL', lock))
  elseif type(held) == 'table' then
    replies[i] = plain(held)
  else
    local _, reply = pcall(give_back, held, value)
    replies[i] = plain(reply)
  end
end
return replies
