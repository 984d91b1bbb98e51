-- Frees a lock, if the claim holds it by whichever try, and reserves it for the first waiter.
--
-- KEYS  1 lock  2 queue  3 reserved
-- ARGV  1 claim  2 how long a reservation lasts, ms; 0 to leave the queue alone
--       3 how long the lock stays taken, by nobody, ms; 0 to free it
-- Reply 1 if it was released, 2 if a waiter is to have it, 0 if somebody else holds it, -1 if the key is gone.
local held = redis.pcall('GET', KEYS[1])
if not held then
  return -1
end
if held == ARGV[1] .. ' released' then
  return 1 -- the first reply was lost
end
if not try_of(held, ARGV[1]) then
  return 0
end
if ARGV[3] ~= '0' then
  redis.call('SET', KEYS[1], ARGV[1] .. ' released', 'PX', ARGV[3])
  return 1
end
redis.call('DEL', KEYS[1])
if ARGV[2] == '0' then
  return 1
end
return pass_on(ARGV[2]) and 2 or 1
