-- Makes locks last for another TTL from now, each if its value still holds it.
--
-- KEYS  the locks
-- ARGV  for each lock: its value, and its TTL in ms
-- Reply for each lock 1 if it does, 0 if the key is gone, -1 if somebody else holds it.
local replies = {}
for i, lock in ipairs(KEYS) do
  local held = redis.pcall('GET', lock)
  if is(held, ARGV[2 * i - 1]) then
    redis.call('PEXPIRE', lock, ARGV[2 * i])
    replies[i] = 1
  elseif not held then
    replies[i] = 0
  elseif type(held) == 'table' and string.sub(held.err, 1, 9) ~= 'WRONGTYPE' then
    return held
  else
    replies[i] = -1
  end
end
return replies
