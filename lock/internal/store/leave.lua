-- Takes a waiter off the queue. If the lock is reserved for it, the next one has it.
--
-- KEYS  1 lock  2 queue  3 reserved
-- ARGV  1 name of the waiter  2 how long a reservation lasts, ms
-- Reply 1
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('GET', KEYS[3]) == ARGV[1] then
  redis.call('DEL', KEYS[3])
  if redis.call('EXISTS', KEYS[1]) == 0 then
    pass_on(ARGV[2])
  end
end
return 1
