-- Shared part of the scripts that may find a lock free while others wait for it. Their keys are the same.

-- tell sends a message to a waiter's inbox, and returns whether anybody can have heard it. Where PUBLISH counts all
-- subscribers (strict, not in a cluster) that is known; an error of it counts as nobody.
local function tell(waiter, token, now)
  local heard = redis.pcall('PUBLISH', inbox .. string.match(waiter, '^[^:]*'),
    string.format('%s %.0f %.0f', waiter, token, now))
  return type(heard) == 'number' and (heard > 0 or not strict)
end

-- take makes a value the holder, with a mark if there are waiters.
local function take(value, ttl)
  if redis.call('EXISTS', KEYS[3]) == 1 then
    value = value .. mark
  end
  redis.call('SET', KEYS[1], value, 'PX', ttl)
end

-- hand_over gives the lock to the first waiter that is alive: its value becomes the lock's, for a short time in which
-- the waiter must extend it, and its process is told through its inbox. The waiter after it is told that it is the first
-- now (token -1): should the new holder be dead it has to take over. With a grant of 0 ms the waiter is told only (token
-- 0), and has to acquire for itself. Waiters are taken off the queue whether they are alive or not: one counts as dead
-- when it has not asked again for its liveness time, or when nobody listens to its inbox.
--
-- It returns the value of the new holder, or nil; if the first waiter is `me` it stays in the queue and is returned.
local function hand_over(me)
  local queue, seen = KEYS[3], KEYS[4]
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  while true do
    local waiters = redis.call('ZRANGE', queue, 0, 1)
    local first = waiters[1]
    if not first or first == me then
      return first
    end
    redis.call('ZREM', queue, first)
    local alive = tonumber(redis.call('HGET', seen, first) or 0) > now
    redis.call('HDEL', seen, first)
    if alive and grant == 0 then
      if tell(first, 0, now) then
        return first
      end
    elseif alive and tell(first, next_token(KEYS[2]), now) then
      take(first, grant)
      if waiters[2] then
        tell(waiters[2], -1, now)
      end
      return first
    end
  end
end
