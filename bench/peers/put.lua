-- The least a write that expects a version can do.
--
-- KEYS[1]  the value and its version, a hash
-- ARGV[1]  the version that it should have, 0 for no value
-- ARGV[2]  the next version
-- ARGV[3]  the next value
--
-- Reply    1 if it was written, 0 if not
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'value', ARGV[3])
return 1
