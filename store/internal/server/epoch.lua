-- Returns the epoch of a tag, and begins one if there is none.
--
-- KEYS  1 tag
-- ARGV  1 an ID that was never used  2 for how long it has to last, ms  3 for how long it is made to last if it is not, ms
-- Reply {'epoch', epoch} | {'foreign'}
local epoch = read_epoch(KEYS[1])
if epoch == false then return {'foreign'} end
if not epoch then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
  return {'epoch', ARGV[1]}
end
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and left < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return {'epoch', epoch}
