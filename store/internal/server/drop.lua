-- Deletes a value of a Cache and revokes the lease on it, so that nothing that is loaded now is stored.
--
-- KEYS  1 entry  2 lease
-- ARGV  1 letter of the codec  2 channel of near caches
--       3 for how long nothing that is loaded later is stored either, ms, 0 for none: an earlier hold-off that lasts longer stays
--       4 what those find who come then, which nothing else leaves
-- Reply {'written', its version or 0, time} | {'foreign'}
local entry = read_header(KEYS[1], 'va', ARGV[1])
if entry == false then return {'foreign'} end
if entry then redis.call('DEL', KEYS[1]) end
local why, left, earlier = '! ' .. ARGV[4], tonumber(ARGV[3]), redis.call('PTTL', KEYS[2])
local held = revoke(KEYS[2])
if held == why then left = math.max(left, earlier) end
if left > 0 and type(held) ~= 'table' then redis.call('SET', KEYS[2], why, 'PX', left) end -- a table: it is of another type
publish(ARGV[2], KEYS[1])
return {'written', entry and entry.version or 0, clock()}
