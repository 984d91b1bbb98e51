-- Replaces the state of a workflow, unless somebody else has replaced it meanwhile, and notes the fact that led there.
--
-- KEYS[1] the state, a JSON object with seq and token
-- KEYS[2] the ledger, a list of facts
-- ARGV[1] seq of the state that the caller started from
-- ARGV[2] the new state
-- ARGV[3] the fact
-- ARGV[4] how many seconds both are kept
-- Reply: 1 if the new state is in place, 0 if the caller was too late, -1 if there is no state at all.
local stored = redis.call('GET', KEYS[1])
if not stored then
  return -1
end
local old, new = cjson.decode(stored), cjson.decode(ARGV[2])

-- The client sends a command again when its reply got lost: the second time it is there already.
if old.token == new.token and old.seq == new.seq then
  return 1
end
if old.token > new.token or old.seq ~= tonumber(ARGV[1]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[4])
redis.call('RPUSH', KEYS[2], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 1
