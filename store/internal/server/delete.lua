-- Deletes a value of a State. What remains for a while keeps its version and fence, and the ID of this write.
--
-- KEYS  1 entry
-- ARGV  1 ID of this write
--       2 1 if an earlier try of this write may have been executed, else 0
--       3 version that must be there, 0 for none, - for any
--       4 fencing token, 0 for none
--       5 for how long something remains, ms  6 the same if there is a fence
--       7 letter of the codec
-- Reply {'written', version or 0, time} | {'conflict', what is there or nil, time} | {'fenced', fence} | {'foreign'} |
--       {'uncertain'}
local write, expected, fence = ARGV[1], ARGV[3], tonumber(ARGV[4])
local entry, raw = read_entry(KEYS[1], 'sd', ARGV[7])
if entry == false then return {'foreign'} end
local now = clock()
local old = entry or {version = 0, fence = 0, write = ''}
if old.write == write then return {'written', old.version, now} end

local live = fresh(entry, now)
local version = live and string.format('%.0f', old.version) or '0'
if ARGV[2] == '1' and (version == '0' or version ~= expected) then return {'uncertain'} end -- see put.lua
if fence > 0 and old.fence > fence then return {'fenced', old.fence} end
if expected ~= '-' and version ~= expected then return {'conflict', live and raw or false, now} end
if not live and fence <= old.fence then return {'written', 0, now} end -- there is nothing to delete, or to remember

local new = {
  kind = 'd', coding = '--', version = math.max(now, old.version + 1), fence = math.max(old.fence, fence),
  write = write, tags = '-',
}
new.ends = now + ARGV[new.fence > 0 and 6 or 5] * 1000
if not pcall(write_entry, KEYS[1], new, '', now, 0) then
  -- A server that has no memory left lets a script write after this. It comes second, as a slot that moves lets nobody write a key
  -- that is gone.
  redis.call('DEL', KEYS[1])
  if not pcall(write_entry, KEYS[1], new, '', now, 0) then return {'uncertain'} end -- deleted, and nothing remembers the fence
end
return {'written', new.version, now}
