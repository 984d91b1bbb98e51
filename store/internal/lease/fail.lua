-- Ends a lease whose holder has no value to store.
--
-- KEYS  1 entry  2 lease
-- ARGV  1 token  2 why, for those who wait and those who come during the pause  3 pause in ms in which nobody tries, 0 for none
--       4 1 if it is known that there is no value, so that an old one is deleted, else 0  5 letter of the codec
--       6 channel of near caches
-- Reply {'ended'} | {'refused'} the lease was over, and nothing was done
local held = redis.pcall('GET', KEYS[2])
if not holds(held, ARGV[1]) then return {'refused'} end
local deletes = ARGV[4] == '1' and read_header(KEYS[1], 'va', ARGV[5])
if deletes then redis.call('DEL', KEYS[1]) end
-- In this order, see delete.lua.
local pauses = ARGV[3] ~= '0'
if not (pauses and pcall(redis.call, 'SET', KEYS[2], '! ' .. ARGV[2], 'PX', ARGV[3])) then
  redis.call('DEL', KEYS[2])
  if pauses then redis.pcall('SET', KEYS[2], '! ' .. ARGV[2], 'PX', ARGV[3]) end
end
wake(KEYS[2], held, 'failed', ARGV[2])
if deletes then publish(ARGV[6], KEYS[1]) end
return {'ended'}
