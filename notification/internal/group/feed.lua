-- Gives events of the journal to the group, with how far it was read, in one step: each is either still to be read or
-- held by the group.
--
-- KEYS     as in lead.lua
-- ARGV[1]  known as the leader has it: if it has changed, another member leads, and nothing is done
-- ARGV[2]  known from now on
-- ARGV[3]  the leader's pattern
-- then for each event its ID, which sorts as the journal does, and its body
--
-- Reply    1 if it was done, 0 if not; known; number and bytes of the events held. An error that begins with NOGROUP if
--          the group is gone, and with PATTERN as in join.lua if another one has its name by now.

local progress, events, due, wake = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local had = redis.call('HMGET', progress, 'known', 'pattern')
local known = had[1]
if not known then return redis.error_reply('NOGROUP the group is gone') end
if had[2] ~= ARGV[3] then return redis.error_reply('PATTERN ' .. (had[2] or '')) end
if known ~= ARGV[1] then return {0, known, 0, 0} end

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local added, size = 0, 0
for i = 4, #ARGV, 2 do
  local id, body = ARGV[i], ARGV[i + 1]
  if redis.call('HSETNX', events, id, body) == 1 then
    redis.call('HSET', events, 'n' .. id, '0 ')
    redis.call('ZADD', due, now, id)
    added, size = added + 1, size + #body
  end
end
redis.call('HSET', progress, 'known', ARGV[2])
if added > 0 and redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, 1) end
return {1, ARGV[2], redis.call('HINCRBY', progress, 'held', added), redis.call('HINCRBY', progress, 'bytes', size)}
