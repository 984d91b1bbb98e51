-- Appends one event to the journal and publishes it to all of its channels, with its place in the journal spliced
-- into the JSON. Everything happens in one script, so the copies of an event are adjacent on every connection.
-- It does no more than that, since all of Redis waits for it; publish_many.lua is for everything else.
--
-- KEYS[1]  the journal, a stream
-- ARGV[1]  how many events the journal keeps, about
-- ARGV[2]  key: an ID of the publisher's own, and the channels; see makeKey
-- ARGV[3]  value: the JSON object behind "event_id", without its opening brace
-- ARGV[4]  milliseconds until the journal expires
-- ARGV[5]  1 to count these from now on, 0 if that was done a short while ago
-- ARGV[6]  and all that follow: the channels
--
-- Reply    the event's place in the journal

local journal, value = KEYS[1], ARGV[3]

local id = redis.call('XADD', journal, 'NOMKSTREAM', 'MAXLEN', '~', ARGV[1], '*', 'k', ARGV[2], 'v', value)
local new = not id
if new then
  id = redis.call('XADD', journal, '*', 'k', ARGV[2], 'v', value)
end
if new or ARGV[5] == '1' then
  redis.call('PEXPIRE', journal, ARGV[4])
end

local payload = '{"event_id":"' .. id .. '",' .. value
for i = 6, #ARGV do
  local reply = redis.pcall('PUBLISH', ARGV[i], payload)
  if type(reply) == 'table' then
    -- A refused first channel leaves no trace. A later one differs only in its permissions.
    if i == 6 then redis.call('XDEL', journal, id) end
    return reply
  end
end
return id
