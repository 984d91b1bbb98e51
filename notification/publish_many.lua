-- Does what publish.lua does for many events, and also for events that may have been published already.
-- Written to be fast rather than tidy: all of Redis waits for it.
--
-- KEYS[1]  the journal, a stream
-- ARGV[1]  how many events the journal keeps, about
-- ARGV[2]  milliseconds the journal outlives its last event
-- ARGV[3]  0 on the first attempt; on a repetition, the milliseconds since the first attempt, rounded up
-- ARGV[4]  until when a first attempt may be executed: the server's milliseconds, or anything behind all digits
-- then for each event:
--          key: an ID of the publisher's own, and the channels; see appendKey
--          value: the JSON object behind "event_id", without its opening brace
--          number of channels
--          the channels
--
-- Reply    the server's time in milliseconds; the place of the last event that was appended, or an empty string; and then
--          for each event that failed its index and an error, which may be PARTIAL as in publish.lua. One that begins
--          with TRIMMED says that an event may have been published by an earlier attempt and is not now.
--          If the journal refuses the first event, that error and nothing else: nothing was done.

local journal, size = KEYS[1], ARGV[1]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local clock = string.format('%.0f', now)
if clock > ARGV[4] then
  return redis.error_reply('LATE their sender has given them up')
end

-- On a repetition the earlier attempt may have been executed. Its events are then at the end of the journal, and
-- no older than the first attempt by the server's own clock. If a full journal does not reach back to that, they may
-- have been trimmed. A repetition may be under way for a second; another server may have taken over, with another clock,
-- for which a search can afford a wider margin.
local known, trimmed
if ARGV[3] ~= '0' then
  local function ago(margin) return string.format('%.0f', math.max(0, now - ARGV[3] - margin)) end
  known = {}
  local upper = '+'
  while upper do
    local entries = redis.call('XREVRANGE', journal, upper, ago(30000), 'COUNT', 100)
    upper = nil
    for _, entry in ipairs(entries) do known[entry[2][2]] = true end
    if #entries == 100 then upper = '(' .. entries[100][1] end
  end
  trimmed = redis.call('XLEN', journal) >= tonumber(size) and #redis.call('XRANGE', journal, '-', ago(1000), 'COUNT', 1) == 0
end

local reply = { clock, '' }
local at, last, index = 5, #ARGV, 0
while at < last do
  local key, value, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local failure
  if known and known[key] then
    -- It has been published.
  elseif trimmed then
    failure = 'TRIMMED the journal does not reach back to the first attempt'
  else
    local id = redis.pcall('XADD', journal, 'NOMKSTREAM', 'MAXLEN', '~', size, '*', 'k', key, 'v', value)
    if not id then -- as in publish.lua
      local first = string.format('%.0f-%.0f', now, time[2] % 1000 * 1000)
      id = redis.pcall('XADD', journal, first, 'k', key, 'v', value)
    end
    if type(id) == 'table' then
      if at == 5 then return id end
      failure = id.err
    else
      reply[2] = id
      local payload = '{"event_id":"' .. id .. '",' .. value
      for i = at + 3, at + 2 + count do
        local refused = redis.pcall('PUBLISH', ARGV[i], payload)
        if type(refused) == 'table' then
          -- A refused first channel leaves no trace. A later one differs only in its permissions.
          if i > at + 3 then
            failure = 'PARTIAL ' .. refused.err
          else
            local kept = redis.pcall('XDEL', journal, id)
            failure = type(kept) == 'table' and 'PARTIAL ' .. kept.err or refused.err
          end
          break
        end
      end
    end
  end
  if failure then
    reply[#reply + 1] = index
    reply[#reply + 1] = failure
  end
  at, index = at + 3 + count, index + 1
end

-- If it is refused, see publish.lua. But what a replica knows of earlier attempts, its master may not.
local refused = redis.pcall('PEXPIRE', journal, ARGV[2])
if type(refused) == 'table' and string.find(refused.err, 'READONLY', 1, true) then return refused end
return reply
