-- Shared part of the scripts that may find a lock free while others wait for it. Their keys are the same.
--
-- read_rules takes apart what a manager's scripts have in common, which is one argument as most calls do not need it:
-- grant, retention of the fence (both ms), '1' if PUBLISH counts all subscribers, prefix of inboxes.
local function read_rules(rules)
  return string.match(rules, '^(%d+) (%d+) (%d) (.*)$')
end

-- hand_over gives the lock to the first waiter that is alive: its value becomes the lock's, for a short time in which
-- the waiter must extend it, and its process is told through its inbox. With a grant of 0 ms the waiter is told only,
-- and has to acquire for itself. Waiters are taken off the queue whether they are alive or not. It returns the value of
-- the new holder, or nil; if the first waiter is `me` it stays in the queue and is returned.
--
-- A waiter counts as dead when it has not asked again for its liveness time, or, where PUBLISH counts all subscribers
-- (strict, not in a cluster), when nobody listens to its inbox.
local function hand_over(me, grant, retention, strict, inbox)
  local lock, fence, queue, seen = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  while true do
    local first = redis.call('ZRANGE', queue, 0, 0)[1]
    if not first or first == me then
      return first
    end
    redis.call('ZREM', queue, first)
    local alive = tonumber(redis.call('HGET', seen, first) or 0) > now
    redis.call('HDEL', seen, first)
    if alive then
      local token = 0
      if grant ~= '0' then
        token = next_token(fence, retention)
      end
      local heard = redis.pcall('PUBLISH', inbox .. string.match(first, '^[^:]*'),
        string.format('%s %.0f %.0f', first, token, now))
      if type(heard) == 'number' and (heard > 0 or strict ~= '1') then
        if token > 0 then
          redis.call('SET', lock, first, 'PX', grant)
        end
        return first
      end
    end
  end
end
