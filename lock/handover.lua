-- Shared part of the scripts that may find a lock free while others wait for it. Their keys are the same, or those of
-- several locks one after the other: these are the ones of the lock of now.
local lock, fence, queue, seen = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

-- tell sends a message to a waiter's inbox, and returns whether anybody can have heard it. Where PUBLISH counts all
-- subscribers (strict, not in a cluster) that is known; an error of it counts as nobody.
local function tell(waiter, token, now)
  local heard = redis.pcall('PUBLISH', inbox .. string.match(waiter, '^[^:]*'),
    string.format('%s %.0f %.0f', waiter, token, now))
  return type(heard) == 'number' and (heard > 0 or not strict)
end

-- take makes a value the holder, with a mark if there are waiters.
local function take(value, ttl, waited)
  if waited then
    value = value .. mark
  end
  redis.call('SET', lock, value, 'PX', ttl)
end

-- The field of the hash of those seen that says when all waiters were told of a new holder, and how long ago that may be
-- for those who were not to look after it all the same. Names of waiters contain a colon.
local told, recently = 'told', 1000000

-- watched is how many waiters are told at most.
local watched = 1000

-- alarm tells those who wait behind a new holder to look after it, in their order: should it not confirm the lock, which
-- it has for a short time only, the first of them that is alive sees to it. Any number of them may have vanished
-- unnoticed, so it takes all to be sure. Where a lock goes from hand to hand quickly they hear of it once a second, and
-- besides only who is next: as long as somebody is told, he finds the later holders as well. `me` does look already.
local function alarm(next, me, now)
  if now - tonumber(redis.call('HGET', seen, told) or 0) < recently then
    if next ~= me then
      tell(next, -1, now)
    end
    return
  end
  redis.call('HSET', seen, told, string.format('%.0f', now))
  for rank, waiter in ipairs(redis.call('ZRANGE', queue, 0, watched - 1)) do
    if waiter ~= me then
      tell(waiter, -rank, now)
    end
  end
end

-- hand_over gives the lock to the first waiter that is alive: its value becomes the lock's, for a short time in which
-- the waiter must extend it, and its process is told through its inbox. Those after it are told to look after it. With a
-- grant of 0 ms the waiter is told only (token 0), and has to acquire for itself. Waiters are taken off the queue whether
-- they are alive or not: one counts as dead when it has not asked again for its liveness time, or when nobody listens to
-- its inbox.
--
-- It returns the value of the new holder, or nil; if the first waiter is `me` it stays in the queue and is returned.
local function hand_over(me)
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  while true do
    local waiters = redis.call('ZRANGE', queue, 0, 1)
    local first, next = waiters[1], waiters[2]
    if not first or first == me then
      return first
    end
    redis.call('ZREM', queue, first)
    local alive = tonumber(redis.call('HGET', seen, first) or 0) > now
    if next then
      redis.call('HDEL', seen, first)
    else
      redis.call('DEL', seen)
    end
    if alive and grant == 0 then
      if tell(first, 0, now) then
        return first
      end
    elseif alive and tell(first, next_token(fence), now) then
      take(first, grant, next)
      if next then
        alarm(next, me, now)
      end
      return first
    end
  end
end
