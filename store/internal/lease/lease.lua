-- Asks who may load a value. What a caller has asked for before is its own still, as the first reply may have been lost.
--
-- KEYS  1 entry  2 lease
-- ARGV  1 token of the caller  2 TTL of a lease, ms  3 inbox of the caller's process
--       4 version that is to be replaced although it is fresh, 0 for none  5 letter of the codec
-- Reply {'fresh', entry, time} there is a value | {'granted'} the caller is to load it |
--       {'failed', why, ms} somebody has tried a moment ago, and nobody tries for so long |
--       {'busy', token, ms, time} the holder of this token loads; the lease lasts for so long unless it is renewed |
--       {'foreign'}
local entry = read_header(KEYS[1], 'va', ARGV[5])
if entry == false then return {'foreign'} end
local now = clock()
if fresh(entry, now) and string.format('%.0f', entry.version) ~= ARGV[4] then
  return {'fresh', redis.call('GET', KEYS[1]), now}
end

local held = redis.pcall('GET', KEYS[2])
if type(held) == 'table' then
  if string.find(held.err, 'WRONGTYPE', 1, true) then return {'foreign'} end
  return held
end
if not held then
  redis.call('SET', KEYS[2], ARGV[1] .. '\n', 'PX', ARGV[2])
  return {'granted'}
end
if holds(held, ARGV[1]) then
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
  return {'granted'}
end
local left = redis.call('PTTL', KEYS[2])
local why = string.match(held, '^! (.*)$')
if why then return {'failed', why, left} end
local token = string.match(held, '^(%x+)\n')
if not token then return {'foreign'} end
if not string.find(held, '\n' .. ARGV[3] .. '\n', 1, true) then
  redis.call('SET', KEYS[2], held .. ARGV[3] .. '\n', 'KEEPTTL')
end
return {'busy', token, left, now}
