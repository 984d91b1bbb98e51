-- Makes a value last for another time. It keeps its version.
--
-- KEYS  1 entry
-- ARGV  1 kinds that may be there, sd or va
--       2 TTL in ms from now, 0 for none, -1 for that which the value has, if less than half of it is left
--       3 how long the key is kept beyond its TTL, ms; for a state only if it has a fence; -1 with a TTL of -1 for as long as now
--       4 1 if an earlier try may have been executed, else 0
--       5 letter of the codec
-- Reply {'written', version, time, ms for which the key is kept beyond its TTL} | {'absent'} | {'foreign'} | {'enough'} | {'uncertain'}
if ARGV[4] == '1' then return {'uncertain'} end
local entry, raw = read_entry(KEYS[1], ARGV[1], ARGV[5])
if entry == false then return {'foreign'} end
local now = clock()
if not fresh(entry, now) then return {'absent'} end
local ttl, keep = tonumber(ARGV[2]), tonumber(ARGV[3])
if ttl < 0 then
  ttl = entry.ttl
  if entry.ends == 0 or not ttl or entry.ends - now >= ttl * 500 then return {'enough'} end
  if keep < 0 then -- rounded, so that many times in a row neither add to it nor take from it
    keep = math.max(math.floor(redis.call('PTTL', KEYS[1]) - (entry.ends - now) / 1000 + 0.5), 0)
  end
end
entry.ends, entry.ttl = 0, nil
if ttl > 0 then entry.ends, entry.ttl = now + ttl * 1000, ttl end
if entry.kind == 's' and entry.fence == 0 then keep = 0 end
write_entry(KEYS[1], entry, string.sub(raw, entry.start), now, keep)
return {'written', entry.version, now, keep}
