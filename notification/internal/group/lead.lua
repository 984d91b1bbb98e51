-- Makes a member the leader of its group, or lets it stay so: the one that reads the journal for all. It also sees to
-- what nobody else would notice.
--
-- KEYS[1]  progress, see join.lua
-- KEYS[2]  events, see join.lua
-- KEYS[3]  due, a sorted set: the IDs of the events, by the server's milliseconds at which each may be handed out
-- KEYS[4]  wake, a list with at most one element: pushed for a member that waits for events
-- ARGV[1]  the member
-- ARGV[2]  for how many milliseconds it leads
-- ARGV[3]  known as the member has it
-- ARGV[4]  known from now on, if it still is as the member has it; an empty string changes nothing
-- ARGV[5]  how many milliseconds ahead a due time can be, by the member's own settings: those of another one may be larger
-- ARGV[6]  the member's pattern
--
-- Reply    1 if the member leads, and 0 if another one does; known; number and bytes of the events held; lost, see join.lua;
--          in how many milliseconds the next event is due, -1 if none is; and formers, see join.lua. An error that begins with
--          NOGROUP if the group is gone, and with PATTERN as in join.lua if another one has its name by now.

local progress, events, due, wake = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local had = redis.call('HMGET', progress, 'known', 'leader', 'until', 'held', 'bytes', 'ahead', 'pattern', 'formers', 'lost')
local known, leader, ends = had[1], had[2], tonumber(had[3] or 0)
local formers, lost = tonumber(had[8] or 0), tonumber(had[9] or 0)
local held, bytes = tonumber(had[4] or 0), tonumber(had[5] or 0)
if not known then return redis.error_reply('NOGROUP the group is gone') end
if had[7] ~= ARGV[6] then return redis.error_reply('PATTERN ' .. (had[7] or '')) end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A time further ahead than anybody leads for is that of a clock which has gone back.
if leader and leader ~= ARGV[1] and ends > now and ends <= now + ARGV[2] then return {0, known, held, bytes, lost, -1, formers} end
redis.call('HSET', progress, 'leader', ARGV[1], 'until', string.format('%.0f', now + ARGV[2]))
if ARGV[4] ~= '' and known == ARGV[3] then
  known = ARGV[4]
  redis.call('HSET', progress, 'known', known)
end

-- Redis may evict one of the keys and keep the others. What is left of an event that is whole is handed out again.
local fields, times = redis.call('HLEN', events), redis.call('ZCARD', due)
if fields ~= 2 * held or times ~= held then
  for _, id in ipairs(redis.call('ZRANGE', due, 0, -1)) do
    if redis.call('HEXISTS', events, id) == 0 then redis.call('ZREM', due, id) end
  end
  local whole = 0
  bytes = 0
  for _, id in ipairs(redis.call('HKEYS', events)) do
    if string.sub(id, 1, 1) ~= 'n' then
      redis.call('ZADD', due, 'NX', now, id)
      redis.call('HSETNX', events, 'n' .. id, '0 ')
      whole, bytes = whole + 1, bytes + redis.call('HSTRLEN', events, id)
    end
  end
  lost, held = lost + math.max(0, held - whole), whole
  redis.call('HSET', progress, 'held', held, 'bytes', bytes, 'lost', lost)
end

local limit = now + math.max(tonumber(ARGV[5]), 2 * tonumber(had[6] or 0))
local last = redis.call('ZRANGE', due, -1, -1, 'WITHSCORES')
if last[2] and tonumber(last[2]) > limit then -- again a clock that has gone back
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, string.format('(%.0f', limit), '+inf')) do
    redis.call('ZADD', due, now, id)
  end
end

local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
local pause = -1
if first[2] then
  pause = math.max(0, first[2] - now)
  if pause == 0 and redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, 1) end
end
return {1, known, held, bytes, lost, pause, formers}
