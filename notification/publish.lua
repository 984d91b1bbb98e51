-- Appends one event to the journal and publishes it to all of its channels, with its place in the journal spliced
-- into the JSON. Everything happens in one script, so the copies of an event are adjacent on every connection.
-- It does no more than that, since all of Redis waits for it; publish_many.lua is for everything else.
--
-- SIZE and LIFETIME are numbers that send.go puts in: how many events the journal keeps, about, and the milliseconds
-- until it expires. Each argument of a script costs as much as a line of it, so what never changes is none.
--
-- KEYS[1]  the journal, a stream
-- ARGV[1]  key: an ID of the publisher's own, and the channels; see appendKey
-- ARGV[2]  value: the JSON object behind "event_id", without its opening brace
-- ARGV[3]  until when this may be executed, in the server's milliseconds. What counts is the event's place, which begins
--          with them: to ask for the time would take longer. See lateness.go for when places stand still.
-- ARGV[4]  and all that follow: the channels
-- then, if the journal's time is to be counted from now on: an empty string, which is no channel
--
-- Reply    the event's place in the journal, or an error. One that begins with PARTIAL says why another channel than
--          the first was refused: the event is in the journal and on the channels before that. Or it is only in the
--          journal, as it could not be deleted there.

local journal, value, last = KEYS[1], ARGV[2], #ARGV

local renew = ARGV[last] == ''
if renew then last = last - 1 end

local id = redis.call('XADD', journal, 'NOMKSTREAM', 'MAXLEN', '~', 'SIZE', '*', 'k', ARGV[1], 'v', value)
if not id then
  -- It expired, or was deleted or evicted, perhaps in this very millisecond, whose places would then be given twice. So it
  -- begins with one that grows by the microsecond, faster than anybody can publish.
  local time = redis.call('TIME')
  local first = string.format('%.0f-%.0f', time[1] * 1000 + math.floor(time[2] / 1000), time[2] % 1000 * 1000)
  id = redis.call('XADD', journal, first, 'k', ARGV[1], 'v', value)
  renew = true
end
if renew then
  -- Should it be refused, the journal only lives for longer, no larger than ever. The event is in it and has to go out.
  redis.pcall('PEXPIRE', journal, 'LIFETIME')
end

-- Takes the event out of the journal again.
local function undone(reply)
  local kept = redis.pcall('XDEL', journal, id)
  if type(kept) == 'table' then return redis.error_reply('PARTIAL ' .. kept.err) end
  return reply
end

-- In as many digits as ever.
if id > ARGV[3] then return undone(redis.error_reply('LATE its sender has given it up')) end

local payload = '{"event_id":"' .. id .. '",' .. value
for i = 4, last do
  local reply = redis.pcall('PUBLISH', ARGV[i], payload)
  if type(reply) == 'table' then
    -- A refused first channel leaves no trace. A later one differs only in its permissions.
    if i > 4 then return redis.error_reply('PARTIAL ' .. reply.err) end
    return undone(reply)
  end
end
return id
