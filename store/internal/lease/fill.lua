-- Stores what the holder of a lease has loaded, and ends the lease. Nothing is stored if somebody else has stored or deleted
-- a value since the lease was granted, or the lease has run out: what was loaded may be older than that.
--
-- KEYS  1 entry  2 lease
-- ARGV  1 token, which is the ID of this write  2 kind  3 letters of codec and compression  4 payload
--       5 TTL in ms, 0 for none  6 how long the key is kept beyond its TTL, ms  7 tags
--       8 up to how many bytes of payload messages have the entry  9 letter of the codec, also if there is no payload
--       10 channel of near caches
-- Reply {'written', version, time} | {'refused'} | {'foreign'}
local entry = read_header(KEYS[1], 'va', ARGV[9])
local held = redis.pcall('GET', KEYS[2])
if not holds(held, ARGV[1]) then
  if entry and entry.write == ARGV[1] then return {'written', entry.version, clock()} end -- the first reply was lost
  return {'refused'}
end
if entry == false then
  redis.call('DEL', KEYS[2])
  wake(KEYS[2], held, 'revoked', '')
  return {'foreign'}
end
local now, ttl, payload = clock(), tonumber(ARGV[5]), ARGV[4]
local new = {
  kind = ARGV[2], coding = ARGV[3], version = math.max(now, (entry and entry.version or 0) + 1), ends = 0, fence = 0,
  write = ARGV[1], tags = ARGV[7],
}
if ttl > 0 then new.ends = now + ttl * 1000 end
write_entry(KEYS[1], new, payload, now, tonumber(ARGV[6]))
redis.call('DEL', KEYS[2])
local body = ''
if #held > #ARGV[1] + 1 and #payload <= tonumber(ARGV[8]) then -- somebody waits
  body = redis.call('GET', KEYS[1])
end
wake(KEYS[2], held, 'filled', body)
publish(ARGV[10], KEYS[1])
return {'written', new.version, now}
