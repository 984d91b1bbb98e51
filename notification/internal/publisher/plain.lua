-- Publishes events without history. A script only so that the copies of an event are adjacent on every connection.
--
-- KEYS[1]  the journal; not used, but it puts the script on the node of a cluster where the subscribers listen
-- ARGV     for each event, with an empty string between two events:
--          payload
--          the channels
--
-- Reply    as that of append.lua

local last, at, index, failures = #ARGV, 1, 0, {}
while at < last do
  local payload, failure = ARGV[at], nil
  at = at + 1
  local first = at
  while at <= last and ARGV[at] ~= '' do
    local refused = not failure and redis.pcall('PUBLISH', ARGV[at], payload)
    if type(refused) == 'table' then failure = (at > first and 'PARTIAL ' or '') .. refused.err end
    at = at + 1
  end
  if failure then failures[#failures + 1] = index .. ' ' .. failure end
  at, index = at + 1, index + 1
end
return table.concat(failures, '\n')
