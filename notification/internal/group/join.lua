-- Joins a group, and makes it if there is none.
--
-- KEYS[1]  progress, a hash with what the group knows: pattern, id (another one each time the group is made), formers (how many
--          groups of this name were lost with members that are in this one now, each with a field "former:<its id>"),
--          known (opaque to scripts: how far the journal was read),
--          leader and until (which member reads the journal, and until when), held and bytes (its events), lost (how
--          many of them Redis has ever evicted), ahead (how many milliseconds an event was ever put off for)
-- KEYS[2]  events, a hash: what the group holds. An event has two fields, its ID and "n<ID>": "<attempts> <owner>",
--          and " back" behind that once a member that stopped has given it back
-- KEYS[3]  due, see lead.lua
-- KEYS[4]  dead, see turn.lua
-- ARGV[1]  the pattern
-- ARGV[2]  known, for a group that is new
-- ARGV[3]  known, for one that is new and of which there is something else: its progress was lost. That is stored, as the
--          member that finds it may end before anybody reads on
-- ARGV[4]  id, for a group that is new
-- ARGV[5]  id of the group that the member was in before, or an empty string
--
-- Reply    1 if the group is new, 0 otherwise; id. An error that begins with PATTERN if the group has another pattern, which
--          follows.

local progress, events, due, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local pattern = redis.call('HGET', progress, 'pattern')
if not pattern then
  local known = ARGV[2]
  if redis.call('HLEN', events) + redis.call('ZCARD', due) + redis.call('XLEN', dead) > 0 then known = ARGV[3] end
  redis.call('HSET', progress, 'pattern', ARGV[1], 'known', known, 'id', ARGV[4])
  if ARGV[5] ~= '' then redis.call('HSET', progress, 'former:' .. ARGV[5], 1) end -- what is known tells of that loss
  return {1, ARGV[4]}
end
if pattern ~= ARGV[1] then return redis.error_reply('PATTERN ' .. pattern) end
local id = redis.call('HGET', progress, 'id') or ''
if ARGV[5] ~= '' and ARGV[5] ~= id and redis.call('HSETNX', progress, 'former:' .. ARGV[5], 1) == 1 then
  redis.call('HINCRBY', progress, 'formers', 1)
end
return {0, id}
