-- Joins a group, and makes it if there is none.
--
-- KEYS[1]  progress, a hash with what the group knows: pattern, known (opaque to scripts: how far the journal was read),
--          leader and until (which member reads the journal, and until when), held and bytes (its events)
-- KEYS[2]  events, a hash: what the group holds. An event has two fields, its ID and "n<ID>": "<attempts> <owner>"
-- ARGV[1]  the pattern
-- ARGV[2]  known, for a group that is new
--
-- Reply    1 if the group is new, 2 if it is and yet holds events, so that its progress was lost, 0 otherwise; and known. An
--          error that begins with PATTERN if the group has another pattern, which follows.

local progress, events = KEYS[1], KEYS[2]
local pattern = redis.call('HGET', progress, 'pattern')
if not pattern then
  redis.call('HSET', progress, 'pattern', ARGV[1], 'known', ARGV[2])
  if redis.call('HLEN', events) > 0 then return {2, ARGV[2]} end
  return {1, ARGV[2]}
end
if pattern ~= ARGV[1] then return redis.error_reply('PATTERN ' .. pattern) end
return {0, redis.call('HGET', progress, 'known')}
