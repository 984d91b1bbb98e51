-- Gives a lock back: deletes it, or hands it to the first waiter, if the value holds it.
--
-- KEYS  1 lock   2 fence   3 queue   4 seen
-- ARGV  1 value  2 there if the value is to leave the queue as well
-- Reply 1 if it was released, 2 if it was handed over, 0 if somebody else holds it, -1 if the key is gone.
if ARGV[2] then
  redis.call('ZREM', KEYS[3], ARGV[1])
  if redis.call('EXISTS', KEYS[3]) == 1 then
    redis.call('HDEL', KEYS[4], ARGV[1])
  else
    redis.call('DEL', KEYS[4])
  end
end
return give_back(held, ARGV[1])
