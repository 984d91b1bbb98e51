-- Makes a value last for another time. It keeps its version.
--
-- KEYS  1 entry
-- ARGV  1 kinds that may be there, sd or va
--       2 TTL in ms from now, 0 for none
--       3 do nothing unless less than this is left, ms; 0 for always
--       4 how long the key is kept beyond its TTL, ms; for a state only if it has a fence
--       5 1 if an earlier try may have been executed, else 0
--       6 letter of the codec
-- Reply {'written', version, time} | {'absent'} | {'foreign'} | {'enough'} | {'uncertain'}
if ARGV[5] == '1' then return {'uncertain'} end
local entry, raw = read_entry(KEYS[1], ARGV[1], ARGV[6])
if entry == false then return {'foreign'} end
local now = clock()
if not fresh(entry, now) then return {'absent'} end
local ttl, least, keep = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if least > 0 and (entry.ends == 0 or entry.ends - now >= least * 1000) then return {'enough'} end
entry.ends = 0
if ttl > 0 then entry.ends = now + ttl * 1000 end
if entry.kind == 's' and entry.fence == 0 then keep = 0 end
write_entry(KEYS[1], entry, string.sub(raw, entry.start), now, keep)
return {'written', entry.version, now}
