-- Publishes events without history. A script only so that the copies of an event are adjacent on every connection.
--
-- KEYS[1]  the journal; not used, but it puts the script on the node of a cluster where the subscribers listen
-- ARGV     for each event:
--          payload
--          number of channels
--          the channels
--
-- Reply    for each event an empty string, or "!" and an error message, which may be PARTIAL as in publish.lua

local replies = {}
local at = 1
while at < #ARGV do
  local first, last = at + 2, at + 1 + ARGV[at + 1]
  local result = ''
  for i = first, last do
    local reply = redis.pcall('PUBLISH', ARGV[i], ARGV[at])
    if type(reply) == 'table' then
      result = (i > first and '!PARTIAL ' or '!') .. reply.err
      break
    end
  end
  replies[#replies + 1] = result
  at = last + 1
end
return replies
