-- Writes a value.
--
-- KEYS  1 entry  [2 lease, which is revoked]
-- ARGV  1 kind, v, a or s  2 letters of codec and compression  3 payload  4 ID of this write
--       5 1 if an earlier try of this write may have been executed, else 0
--       6 version that must be there, 0 for none, - for any
--       7 fencing token, 0 for none
--       8 TTL in ms, 0 for none, -1 for that of the value which is there
--       9 how long the key is kept beyond its TTL, ms; for a state only if it has a fence
--       10 tags  11 channel of near caches, empty for a state
-- Reply {'written', version, time} | {'conflict', what is there or nil, time} | {'fenced', fence} | {'foreign'} |
--       {'uncertain'}
local kind, write, expected, fence, ttl = ARGV[1], ARGV[4], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local entry, raw = read_entry(KEYS[1], kind == 's' and 'sd' or 'va', string.sub(ARGV[2], 1, 1))
if entry == false then return {'foreign'} end
local now = clock()
local old = entry or {version = 0, ends = 0, fence = 0, write = ''}
if old.write == write then return {'written', old.version, now} end

local live = fresh(entry, now)
local version = live and string.format('%.0f', old.version) or '0'
-- An earlier try that was executed may have been overwritten since. It was not if the version that this write replaces
-- is still there. If there is to be none, somebody may have deleted what the earlier try wrote.
if ARGV[5] == '1' and (version == '0' or version ~= expected) then return {'uncertain'} end
if fence > 0 and old.fence > fence then return {'fenced', old.fence} end
if expected ~= '-' and version ~= expected then return {'conflict', live and raw or false, now} end

local ends, span = 0, nil
if ttl > 0 then
  ends = now + ttl * 1000
elseif ttl < 0 and live then
  ends, span = old.ends, old.ttl
end
local new = {
  kind = kind, coding = ARGV[2], version = math.max(now, old.version + 1), ends = ends, ttl = span,
  fence = math.max(old.fence, fence), write = write, tags = ARGV[10],
}
local keep = tonumber(ARGV[9])
if kind == 's' and new.fence == 0 then keep = 0 end
write_entry(KEYS[1], new, ARGV[3], now, keep)
if KEYS[2] then revoke(KEYS[2]) end
if ARGV[11] ~= '' then publish(ARGV[11], KEYS[1]) end
return {'written', new.version, now}
