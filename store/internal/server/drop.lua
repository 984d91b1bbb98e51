-- Deletes a value of a Cache and revokes the lease on it, so that nothing that is loaded now is stored.
--
-- KEYS  1 entry  2 lease
-- ARGV  1 letter of the codec  2 channel of near caches
--       3 for how long nothing that is loaded later is stored either, ms, 0 for none  4 what those who come then are told
-- Reply {'written', its version or 0, time} | {'foreign'}
local entry = read_header(KEYS[1], 'va', ARGV[1])
if entry == false then return {'foreign'} end
if entry then redis.call('DEL', KEYS[1]) end
revoke(KEYS[2])
if ARGV[3] ~= '0' and not redis.pcall('GET', KEYS[2]) then redis.call('SET', KEYS[2], '! ' .. ARGV[4], 'PX', ARGV[3]) end
publish(ARGV[2], KEYS[1])
return {'written', entry and entry.version or 0, clock()}
