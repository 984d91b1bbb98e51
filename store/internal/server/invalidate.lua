-- Ends the epoch of a tag.
--
-- KEYS  1 tag
-- ARGV  1 channel of near caches
-- Reply {'written', 0, time} | {'foreign'}
local epoch = read_epoch(KEYS[1])
if epoch == false then return {'foreign'} end
if epoch then redis.call('DEL', KEYS[1]) end
publish(ARGV[1], KEYS[1])
return {'written', 0, clock()}
