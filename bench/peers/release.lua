-- The least a release of a lock can do.
--
-- KEYS[1]  the lock
-- ARGV[1]  value of the holder
--
-- Reply    1 if the lock was the holder's, else 0
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
