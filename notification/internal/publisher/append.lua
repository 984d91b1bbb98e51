-- Appends events to the journal and publishes each to all of its channels, with its ID spliced into the JSON. Everything
-- happens in one script, so the copies of an event are adjacent on every connection. All of Redis waits for it, so the
-- usual way through it does no more than it must: each argument costs as much as a line or two, and each call as much as ten.
--
-- An ID is <ms>-<offset>: the server's time, and the bytes ever appended, up to and including the event. An event counts
-- the bytes of its key and its value and 64 more, as in package journal.
--
-- SIZE, LIFETIME, BYTES and STEP are numbers that scripts.go puts in: how many events the journal keeps, about; the
-- milliseconds until it expires; how many bytes it keeps; and a 32nd of these.
--
-- KEYS[1]  the journal, a stream
-- KEYS[2]  its state, a hash: the epoch (one life of the journal), since when that lasts, the offset, and for each of the
--          last 32 steps, as the field <step> % 32, the ID of the event that has reached it
-- KEYS[3]  the lane, a string: the number of its last request and, behind a blank, the reply if that is not empty
-- ARGV[1]  the number of this request, larger than that of every request before in this lane
-- ARGV[2]  the bytes that the events count together
-- then for each event, with an empty string between two events:
--          key: an ID of the publisher's own, and the channels; see journal.AppendKey
--          value: the JSON object behind "event_id", without its opening brace
--          the channels
-- then, if the time to live is to be counted from now on: an empty string
--
-- Reply    for each event that failed a line with its index, a blank and the error; so an empty string if none did. An
--          error that begins with PARTIAL says why a channel was refused that is not the event's first: it is in the
--          journal and on the channels before that. Or it is only in the journal, as it could not be deleted there.
--          The reply to a request that was executed before is what it was then; nothing else is done.
--          An error if nothing was done; the lane is then as it was before. One that begins with LATE says that a later
--          request was executed in this lane: nobody waits for this one.

local journal, state, lane, number, total, last = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], #ARGV

-- What may be refused for lack of a permission comes before the lane is taken, or does not end the script.
local time = redis.call('TIME')
local before = redis.call('SET', lane, number, 'PX', '600000', 'GET')

local function restore()
  if before then redis.call('SET', lane, before, 'KEEPTTL') else redis.call('DEL', lane) end
end

if before then
  local executed = tonumber(before) or tonumber(string.match(before, '^%d+'))
  if executed >= tonumber(number) then
    restore()
    if executed > tonumber(number) then return redis.error_reply('LATE its sender has given it up') end
    return string.sub(before, #number + 2)
  end
end

local renew = ARGV[last] == ''
if renew then last = last - 1 end

local reached = redis.pcall('HINCRBY', state, 'offset', total)
if type(reached) == 'table' then
  restore()
  return reached
end
if reached == tonumber(total) then
  -- The state is new; perhaps it was evicted. An offset goes on from that of the last event, an epoch does not.
  local newest = redis.pcall('XREVRANGE', journal, '+', '-', 'COUNT', '1')[1]
  local ahead = newest and redis.pcall('HINCRBY', state, 'offset', string.match(newest[1], '%d+$'))
  if type(ahead) == 'number' then reached = ahead end
  redis.pcall('HSETNX', state, 'epoch', string.match(lane, '[^:]*:[^:]*$') .. '.' .. number)
  if not newest then redis.pcall('HSETNX', state, 'since', time[1] .. string.format('%03d', time[2] / 1000)) end
  renew = true
end

local now = time[1] .. string.format('%03d', time[2] / 1000)
local offset, at, index, id, failures = reached - total, 3, 0, nil, nil
-- A request that may take several steps notes the event that reaches each, so that as many of its own stay as fit.
local steps = tonumber(total) >= STEP and {}
local from = math.floor(offset / STEP)
while at < last do
  local key, value = ARGV[at], ARGV[at + 1]
  local size, failure, payload = #key + #value + 64, nil, nil
  offset = offset + size
  id = now .. string.format('-%d', offset)
  local added = redis.pcall('XADD', journal, 'NOMKSTREAM', 'MAXLEN', '~', 'SIZE', id, 'k', key, 'v', value)
  if not added then
    added = redis.pcall('XADD', journal, id, 'k', key, 'v', value) -- it expired, or was deleted or evicted
    local since = redis.pcall('HGET', state, 'since')
    if type(since) == 'string' and tonumber(since) > tonumber(now) then
      redis.pcall('HSET', state, 'since', now) -- the clock has gone back, and later IDs are behind this one
    end
    renew = true
  elseif added ~= id then
    -- The clock is behind the last ID, or this one was given to an event that was deleted. Redis' own choice tells more.
    local probe = redis.pcall('XADD', journal, '*', 'k', '', 'v', '')
    if type(probe) == 'string' then
      redis.pcall('XDEL', journal, probe)
      local ms, sequence = string.match(probe, '(%d+)-(%d+)')
      now = tonumber(sequence) < offset and ms or string.format('%d', ms + 1)
      id = now .. string.format('-%d', offset)
      added = redis.pcall('XADD', journal, 'MAXLEN', '~', 'SIZE', id, 'k', key, 'v', value)
    end
  end
  if added == id then
    payload = '{"event_id":"' .. id .. '",' .. value
  elseif index == 0 then
    redis.call('HINCRBY', state, 'offset', '-' .. total)
    restore()
    return added
  else
    failure, offset = added.err, offset - size
  end

  at = at + 2
  local first = at
  while at <= last and ARGV[at] ~= '' do
    local refused = not failure and redis.pcall('PUBLISH', ARGV[at], payload)
    if type(refused) == 'table' then
      -- A refused first channel leaves no trace. A later one differs only in its permissions.
      local kept = at > first and refused or redis.pcall('XDEL', journal, id)
      if type(kept) == 'table' then
        failure = 'PARTIAL ' .. kept.err
      else
        failure, offset = refused.err, offset - size
      end
    end
    at = at + 1
  end
  if failure then
    failures = failures or {}
    failures[#failures + 1] = index .. ' ' .. failure
  elseif steps then
    local step = math.floor(offset / STEP)
    for reachedBy = math.max(from + 1, step - 31), step do steps[reachedBy] = steps[reachedBy] or id end
  end
  at, index = at + 1, index + 1
end
if offset ~= reached then redis.call('HINCRBY', state, 'offset', string.format('%d', offset - reached)) end

if renew then
  -- Should it be refused, they only live for longer, and no larger.
  redis.pcall('PEXPIRE', journal, 'LIFETIME')
  redis.pcall('PEXPIRE', state, '604800000')
end

if offset % STEP < tonumber(total) then
  -- A step is reached, and what was appended up to the one 31 steps back goes: IDs are in the order of offsets, so nothing
  -- has to be read. The last event stays. Too near an ID is of a system with another limit.
  local step = math.floor(offset / STEP)
  local own = steps and steps[step - 31]
  local oldest = own or redis.pcall('HGET', state, (step + 1) % 32)
  local ms, behind = string.match(type(oldest) == 'string' and oldest or '', '(%d+)-(%d+)')
  if own == id then
    redis.pcall('XTRIM', journal, 'MINID', '=', id)
  elseif ms and (own or offset - behind >= BYTES / 2) then
    redis.pcall('XTRIM', journal, 'MINID', '=', ms .. string.format('-%d', behind + 1))
  end
  for reachedBy = math.max(from + 1, step - 31), step do
    redis.pcall('HSET', state, reachedBy % 32, steps and steps[reachedBy] or id)
  end
end

if not failures then return '' end
local reply = table.concat(failures, '\n')
redis.call('SET', lane, number .. ' ' .. reply, 'PX', '600000')
return reply
