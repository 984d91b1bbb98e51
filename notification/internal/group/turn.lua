-- A member says what became of events, and takes others. Whoever takes an event owns it until it is due again; the owner
-- puts that off as long as it is at work.
--
-- KEYS[1]  to KEYS[4] as in lead.lua
-- KEYS[5]  dead, a stream: the events that were given up
-- KEYS[6]  turn, a string: the number of the member's last turn, and the IDs of the events that it took. It outlives the turn
--          by ten minutes, which is longer than an attempt can be held up
-- ARGV[1]  the member
-- ARGV[2]  number of the turn
-- ARGV[3]  how many events to take at most
-- ARGV[4]  how many bytes of them, unless the first one has more; a repetition may ask for fewer
-- ARGV[5]  for how many milliseconds an event is the member's
-- ARGV[6]  how many events dead keeps, about
-- ARGV[7]  the member's pattern
-- ARGV[8]  id of the group as the member knows it, or an empty string
-- then for each event that something became of four arguments: what, its ID, a number, and a text:
--          done              it was handled
--          again <ms>        it failed, and is due in so many milliseconds
--          back              the member stops: it is due now, and the attempt does not count
--          live              the member is at work on it
--          dead <n> <error>  it is given up after so many attempts
-- or       resign            the member does not lead any more; what follows is ignored
--
-- Reply    known; 1 if no member leads; in how many milliseconds the next event is due, -1 if none is; and for each event
--          that was taken its ID, the number of this attempt, 1 if its owner gave no sign of life or 2 if one that stopped has
--          given it back, 0 otherwise, and its body. A turn that
--          was executed before gives what it took then, as far as ARGV[4] allows, and does nothing else: the rest is due for
--          any member, and that attempt does not count. An error that begins with NOGROUP if the group
--          is gone, with PATTERN as in join.lua if another one has its name by now, with REMADE if it was made again by somebody
--          who did not know it, and with LATE if a later turn of the member was executed: nobody waits for this one, so nothing
--          is done.

local progress, events, due, wake, dead, turn = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local me = ARGV[1]
local had = redis.call('HMGET', progress, 'known', 'leader', 'until', 'ahead', 'pattern', 'id')
local known, leader, ends, ahead = had[1], had[2], had[3], tonumber(had[4] or 0)
if not known then return redis.error_reply('NOGROUP the group is gone') end
if had[5] ~= ARGV[7] then return redis.error_reply('PATTERN ' .. (had[5] or '')) end
if ARGV[8] ~= '' and had[6] ~= ARGV[8] then return redis.error_reply('REMADE') end
local before = redis.call('GET', turn)
local executed = before and tonumber(string.match(before, '^%d+')) or 0
if executed > tonumber(ARGV[2]) then return redis.error_reply('LATE its sender has given it up') end
local repeated = executed == tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function at(ms) return string.format('%.0f', now + ms) end

local resigned = false
local furthest = tonumber(ARGV[5])
-- What is held is counted with each event: what follows may be refused, as XADD is to a user who lacks a permission.
local function remove(id, bytes)
  redis.call('ZREM', due, id)
  redis.call('HDEL', events, id, 'n' .. id)
  redis.call('HINCRBY', progress, 'held', -1)
  redis.call('HINCRBY', progress, 'bytes', 0 - bytes) -- not -0, which is no number to Redis
end

for i = 9, repeated and 0 or #ARGV, 4 do
  local what, id, n, text = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if what == 'resign' then
    if leader == me then
      redis.call('HDEL', progress, 'leader', 'until')
      leader, resigned = false, true
    end
  elseif what == 'done' then
    -- Even if another member has it by now: it was handled.
    if redis.call('HEXISTS', events, id) == 1 then remove(id, redis.call('HSTRLEN', events, id)) end
  else
    local state = redis.call('HGET', events, 'n' .. id)
    local attempts, owner = string.match(state or '', '^(%d+) (%S*)')
    if owner == me then
      if what == 'live' then
        redis.call('ZADD', due, 'XX', at(ARGV[5]), id)
      elseif what == 'again' then
        redis.call('HSET', events, 'n' .. id, attempts .. ' ')
        redis.call('ZADD', due, at(n), id)
        furthest = math.max(furthest, n)
      elseif what == 'back' then
        redis.call('HSET', events, 'n' .. id, (attempts - 1) .. '  back')
        redis.call('ZADD', due, 0, id) -- before what came after it
      elseif what == 'dead' then
        local body = redis.call('HGET', events, id) or '' -- Redis may have evicted it
        redis.call('XADD', dead, 'MAXLEN', '~', ARGV[6], '*', 'id', id, 'event', body, 'attempts', n, 'error', text)
        remove(id, #body)
      end
    end
  end
end

local taken, names, bytes = {}, {ARGV[2]}, tonumber(ARGV[4])
local function take(id, attempts, before, body)
  for _, v in ipairs({id, tostring(attempts), before, body}) do table.insert(taken, v) end
  table.insert(names, id)
end
if repeated then
  for id in string.gmatch(before, '\n([^\n]+)') do
    local attempts, owner, back = string.match(redis.call('HGET', events, 'n' .. id) or '', '^(%d+) (%S*)(.*)$')
    local body = redis.call('HGET', events, id)
    if owner == me and body then
      bytes = bytes - #body
      if bytes < 0 and #taken > 0 then
        redis.call('HSET', events, 'n' .. id, (attempts - 1) .. ' ' .. back)
        redis.call('ZADD', due, 0, id) -- before what came after it
      else
        take(id, attempts, back ~= '' and 2 or 0, body)
      end
    end
  end
else
  local room = tonumber(ARGV[3])
  for _, id in ipairs(room > 0 and redis.call('ZRANGEBYSCORE', due, '-inf', at(0), 'LIMIT', 0, room) or {}) do
    local body = redis.call('HGET', events, id)
    if body then
      bytes = bytes - #body
      if bytes < 0 and #taken > 0 then break end
      local attempts, owner, back = string.match(redis.call('HGET', events, 'n' .. id) or '0 ', '^(%d+) (%S*)(.*)$')
      attempts = attempts + 1
      redis.call('HSET', events, 'n' .. id, attempts .. ' ' .. me .. back)
      redis.call('ZADD', due, at(ARGV[5]), id)
      take(id, attempts, owner ~= '' and 1 or back ~= '' and 2 or 0, body)
    else
      redis.call('ZREM', due, id) -- it was evicted, which the leader finds out
    end
  end
  redis.call('SET', turn, table.concat(names, '\n'), 'PX', 600000)
end
if furthest > ahead then redis.call('HSET', progress, 'ahead', string.format('%.0f', furthest)) end

local free = 0
if not leader or tonumber(ends) <= now then free = 1 end
local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
local pause = -1
if first[2] then pause = math.max(0, first[2] - now) end
-- Whoever is woken sees to the rest, and wakes the next one if that is too much for it.
if (pause == 0 or resigned) and redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, 1) end
local reply = {known, free, pause}
for _, v in ipairs(taken) do table.insert(reply, v) end
return reply
