-- Takes a lock if it is free and nobody waits ahead; otherwise joins the queue and says how long to wait at most. All
-- in one step, so that no release can fall in between.
--
-- KEYS  1 lock   2 fence   3 queue   4 seen
-- ARGV  1 value  2 TTL of the lock, ms  3 name in the queue: the value, or on one of several masters, which tell waiters
--       but do not grant, something that stays the same when the value changes
--       4 liveness, ms: how long the waiter counts as alive without asking again, 0 not to join the queue
--       5 arrival as a former reply gave it, 0 at first
--       6 1 if the waiter was told to look after the holder, else 0
-- Reply {token, or 0 if not granted; remaining TTL of the holder, ms, -1 if it has none; arrival, us; time of the server, us;
--       number of waiters ahead; 1 if the waiter is to look after the holder, 2 if before all others, else 0}
local value, name = ARGV[1], ARGV[3]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local held = redis.call('GET', KEYS[1])
local watch = 0
if not held and grant > 0 and redis.call('EXISTS', KEYS[3]) == 1 then
  -- The former holder died. The queue goes on with whoever is first, which need not be the one who noticed.
  held = hand_over(name)
  held = held and held ~= name and redis.call('GET', KEYS[1])
  watch = 2
end
if not held or is(held, value) then
  redis.call('ZREM', KEYS[3], name)
  local waited = redis.call('EXISTS', KEYS[3]) == 1
  if waited then
    redis.call('HDEL', KEYS[4], name)
  else
    redis.call('DEL', KEYS[4])
  end
  local token = held and tonumber(redis.call('GET', KEYS[2]) or 0) or 0
  if token == 0 then
    token = next_token(KEYS[2])
  end
  take(value, ARGV[2], waited)
  return {token, 0, 0, now, 0, 0}
end
local arrival = tonumber(ARGV[5])
if arrival == 0 then
  arrival = now
end
local ahead = 0
local left = redis.call('PTTL', KEYS[1])
local liveness = tonumber(ARGV[4])
if liveness > 0 then
  redis.call('ZADD', KEYS[3], 'NX', string.format('%.0f', arrival), name)
  redis.call('HSET', KEYS[4], name, string.format('%.0f', now + liveness * 1000))
  redis.call('PEXPIRE', KEYS[3], liveness)
  redis.call('PEXPIRE', KEYS[4], liveness)
  ahead = redis.call('ZRANK', KEYS[3], name)
  if string.find(held, '^[%w_-]+:[%w_-]+$') then -- one of our values, without a mark
    redis.call('APPEND', KEYS[1], mark)
  end
  local since = grant > 0 and redis.call('HGET', KEYS[4], told)
  if since and left > grant and ARGV[6] == '1' then
    -- The holder has confirmed the lock. Nobody else need look.
    redis.call('HDEL', KEYS[4], told)
    for _, waiter in ipairs(redis.call('ZRANGE', KEYS[3], 0, watched - 1)) do
      if waiter ~= name then
        tell(waiter, all_is_well, now)
      end
    end
  elseif since and watch == 0 and now - tonumber(since) < recently then
    watch = 1 -- who comes now has not been told, and would not be by a release that follows soon
  end
end
return {0, left, arrival, now, ahead, watch}
