-- Makes a lock last for another TTL from now, if its value is the one that this server has confirmed. It is never made
-- shorter: of two extensions the one that is sent last may be executed first.
--
-- KEYS  1 lock
-- ARGV  1 value: the claim, # and the number of the try  2 TTL of the lock, ms
-- Reply 1 if it does, 0 if the value is gone, -1 if somebody else holds the lock. Another try of the same claim is nobody
--       else, but that is not known to stay.
local held = redis.pcall('GET', KEYS[1])
if held == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2], 'GT')
  return 1
end
if not held or try_of(held, string.match(ARGV[1], '^(.*)#')) then
  return 0
end
if type(held) == 'table' and string.sub(held.err, 1, 9) ~= 'WRONGTYPE' then
  return held
end
return -1
