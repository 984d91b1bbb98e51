-- Tells what a comparison needs of some entries, and nothing of what they carry: that may be large, and the link slow.
--
-- KEYS[1]  the journal
-- ARGV     two IDs
--
-- Reply    for the entries with these IDs, and for the first one of the journal: nil if there is none, or its ID, the bytes
--          that it counts in offsets, 0 if it is nothing of ours, and the start of its value, with our own fields

local seen = {}
local function head(from, to)
  local entry = redis.call('XRANGE', KEYS[1], from, to, 'COUNT', 1)[1]
  if not entry then return false end
  local id, fields, size = entry[1], entry[2], 0
  if #fields == 4 then size = #fields[2] + #fields[4] + 64 end
  seen[id] = {id, size, string.sub(fields[4] or '', 1, 512)}
  return seen[id]
end

local first = head('-', '+')
local reply = {}
for i = 1, 2 do reply[i] = seen[ARGV[i]] or head(ARGV[i], ARGV[i]) end
reply[3] = first
return reply
