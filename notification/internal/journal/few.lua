-- Reads a few entries one by one, until they are as large as a part is to be: nothing else bounds what the server copies where
-- it is not known how large entries are. In a script a small one costs the server several times as much as in an XRANGE.
--
-- KEYS[1]  the journal
-- KEYS[2]  its state, as in status.lua
-- ARGV[1]  channel that somebody listens to on the server that is meant, or an empty string for any server
-- ARGV[2]  where to begin, as XRANGE has it
-- ARGV[3]  how many entries to return at most
-- ARGV[4]  how many bytes, unless the first one has more
--
-- Reply    epoch and offset, each empty if there is none; 1 if a limit was reached, 0 if the end of the journal was; and the
--          entries. Or an error as in status.lua.

if ARGV[1] ~= '' and redis.pcall('PUBSUB', 'NUMSUB', ARGV[1])[2] == 0 then
  return redis.error_reply('READONLY the subscriptions are on another server')
end

local state = redis.call('HMGET', KEYS[2], 'epoch', 'offset')
local start, most, bytes, entries, more = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), {}, 1
while #entries < most and bytes > 0 do
  local entry = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', 1)[1]
  if not entry then
    more = 0
    break
  end
  entries[#entries + 1] = entry
  for _, field in ipairs(entry[2]) do bytes = bytes - #field end
  start = '(' .. entry[1]
end
return {state[1] or '', state[2] or '', more, entries}
