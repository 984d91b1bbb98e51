-- Makes a lock last for another TTL from now, if the value still holds it.
--
-- KEYS  1 lock
-- ARGV  1 value  2 TTL of the lock, ms
-- Reply 1 if it does, 0 if the key is gone, -1 if somebody else holds it.
local held = redis.pcall('GET', KEYS[1])
if held == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
if not held then
  return 0
end
if type(held) == 'table' and string.sub(held.err, 1, 9) ~= 'WRONGTYPE' then
  return held
end
return -1
