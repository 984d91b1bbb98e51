-- Publishes events without history. A script only so that the copies of an event are adjacent on every connection.
--
-- KEYS[1]  the journal; not used, but it puts the script on the node of a cluster where the subscribers listen
-- ARGV     for each event:
--          payload
--          number of channels
--          the channels
--
-- Reply    for each event that failed its index and an error, which may be PARTIAL as in publish.lua

local reply = {}
local at, index = 1, 0
while at < #ARGV do
  local first, last = at + 2, at + 1 + ARGV[at + 1]
  for i = first, last do
    local refused = redis.pcall('PUBLISH', ARGV[i], ARGV[at])
    if type(refused) == 'table' then
      reply[#reply + 1] = index
      reply[#reply + 1] = (i > first and 'PARTIAL ' or '') .. refused.err
      break
    end
  end
  at, index = last + 1, index + 1
end
return reply
