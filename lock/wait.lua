-- Takes a lock if it is free and nobody waits ahead; otherwise joins the queue and says how long to wait at most. All
-- in one step, so that no release can fall in between.
--
-- KEYS  1 lock   2 fence   3 queue   4 seen
-- ARGV  1 value  2 TTL of the lock, ms  3 retention of the fence, ms  4 prefix of inboxes  5 grant, ms
--       6 '1' if PUBLISH counts everybody  7 name in the queue: the value, or on one of several masters, which tell
--       waiters but do not grant, something that stays the same when the value changes
--       8 liveness, ms: how long the waiter counts as alive without asking again, 0 not to join the queue
--       9 arrival as a former reply gave it, 0 at first
-- Reply {token, or 0 if not granted; remaining TTL of the holder, ms; arrival, us; time of the server, us;
--       number of waiters ahead}
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local held = redis.call('GET', KEYS[1])
if not held and ARGV[5] ~= '0' and redis.call('EXISTS', KEYS[3]) == 1 then
  -- The former holder died. The queue goes on with whoever is first, which need not be the one who noticed.
  held = hand_over(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[7], ARGV[4], ARGV[5], ARGV[3], ARGV[6])
  if held == ARGV[7] then
    held = false
  end
end
if not held or held == ARGV[1] then
  redis.call('ZREM', KEYS[3], ARGV[7])
  redis.call('HDEL', KEYS[4], ARGV[7])
  local token = held and tonumber(redis.call('GET', KEYS[2]) or 0) or 0
  if token == 0 then
    token = next_token(KEYS[2], ARGV[3])
  end
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return {token, 0, 0, now, 0}
end
local arrival = tonumber(ARGV[9])
if arrival == 0 then
  arrival = now
end
local ahead = 0
local liveness = tonumber(ARGV[8])
if liveness > 0 then
  redis.call('ZADD', KEYS[3], 'NX', string.format('%.0f', arrival), ARGV[7])
  redis.call('HSET', KEYS[4], ARGV[7], string.format('%.0f', now + liveness * 1000))
  redis.call('PEXPIRE', KEYS[3], liveness)
  redis.call('PEXPIRE', KEYS[4], liveness)
  ahead = redis.call('ZRANK', KEYS[3], ARGV[7])
end
return {0, math.max(redis.call('PTTL', KEYS[1]), 0), arrival, now, ahead}
