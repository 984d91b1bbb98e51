-- Appends events to the journal and publishes each to all of its channels, with its place in the journal spliced
-- into the JSON. Everything happens in one script, so the copies of an event are adjacent on every connection.
--
-- KEYS[1]  the journal, a stream
-- ARGV[1]  how many events the journal keeps, about
-- ARGV[2]  milliseconds the journal outlives its last event
-- ARGV[3]  0 on the first attempt; on a repetition, the milliseconds since the first attempt plus a margin
-- then for each event:
--          own ID, made by the publisher
--          head, the fields of the JSON object that follow "event_id", such as "time":"..."
--          body, the rest of the JSON object: "}" or ",...}"
--          number of channels
--          the channels
--
-- Reply    for each event its place in the journal, or "!" and an error message

local journal, size, ttl, since = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])

-- On a repetition the earlier attempt may have been executed. Its events are then at the end of the journal, and
-- no older than the first attempt by the server's own clock.
local known = {}
if since > 0 then
  local now = redis.call('TIME')
  local oldest = now[1] * 1000 + math.floor(now[2] / 1000) - since
  if oldest < 0 then oldest = 0 end
  local upper = '+'
  while upper do
    local entries = redis.call('XREVRANGE', journal, upper, string.format('%.0f', oldest), 'COUNT', 100)
    upper = nil
    for _, entry in ipairs(entries) do
      known[entry[2][2]] = entry[1]
    end
    if #entries == 100 then upper = '(' .. entries[100][1] end
  end
end

local function publish(own, head, body, channels)
  local entry = {'XADD', journal, 'MAXLEN', '~', size, '*', 'k', own, 'h', head, 'b', body}
  for i, channel in ipairs(channels) do
    entry[#entry + 1] = 'c' .. i
    entry[#entry + 1] = channel
  end
  local id = redis.pcall(unpack(entry))
  if type(id) == 'table' then return '!' .. (id.err or 'XADD failed') end
  local payload = '{"event_id":"' .. id .. '",' .. head .. body
  for i, channel in ipairs(channels) do
    local reply = redis.pcall('PUBLISH', channel, payload)
    if type(reply) == 'table' then
      -- A refused first channel leaves no trace. A later one differs only in its permissions.
      if i == 1 then redis.call('XDEL', journal, id) end
      return '!' .. (reply.err or 'PUBLISH failed')
    end
  end
  return id
end

local replies = {}
local at = 4
while at <= #ARGV do
  local own, head, body, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local channels = {}
  for i = 1, count do channels[i] = ARGV[at + 3 + i] end
  at = at + 4 + count
  replies[#replies + 1] = known[own] or publish(own, head, body, channels)
end
redis.call('PEXPIRE', journal, ttl)
return replies
