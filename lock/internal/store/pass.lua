-- Shared by the scripts that free a lock. Their keys: 1 lock, 2 queue, 3 reserved.

-- pass_on reserves the lock, which is free, for the first waiter, takes that off the queue, and lets it know. It reports
-- whether there is a waiter. The message is a hint: it gives nobody the lock, and if it is lost the waiter, or after the
-- reservation another one, finds out by asking.
local function pass_on(reservation)
  local first = redis.pcall('ZPOPMIN', KEYS[2])[1]
  if not first then
    return false
  end
  redis.call('SET', KEYS[3], first, 'PX', reservation)
  redis.pcall('PUBLISH', string.match(first, '^(.*):'), 'free ' .. first)
  return true
end
