-- Gives a lock back: deletes it, or hands it to the first waiter, if the value holds it.
--
-- KEYS  1 lock   2 fence   3 queue   4 seen
-- ARGV  1 value  2 prefix of inboxes  3 grant, ms  4 retention of the fence, ms  5 '1' if PUBLISH counts everybody
--       6 '1' to leave the queue as well
-- Reply 1 if it was released, 2 if it was handed over, 0 if somebody else holds it, -1 if the key is gone.
if ARGV[6] == '1' then
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('HDEL', KEYS[4], ARGV[1])
end
local held = redis.call('GET', KEYS[1])
if held ~= ARGV[1] then
  return held and 0 or -1
end
if redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('DEL', KEYS[1])
  return 1
end
local heir = hand_over(KEYS[1], KEYS[2], KEYS[3], KEYS[4], nil, ARGV[2], ARGV[3], ARGV[4], ARGV[5])
if heir and ARGV[3] ~= '0' then
  return 2
end
redis.call('DEL', KEYS[1])
return heir and 2 or 1
