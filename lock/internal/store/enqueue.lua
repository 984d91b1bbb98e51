-- Takes a lock if it is free and this waiter may have it; otherwise the waiter joins the queue, or stays in it. All in one
-- step, so that no release can fall in between.
--
-- KEYS  1 lock  2 fence  3 queue  4 reserved
-- ARGV  1 claim  2 number of the try  3 TTL of the lock, ms  4 name of the waiter
--       5 its arrival as an earlier reply gave it, 0 at first  6 TTL of the queue, ms
--       7 1 to let the others know that somebody has looked, 0 not to
-- Reply {token, or 0 if it has to wait; ms after which the lock may be free; waiters ahead; arrival, us}
local heard = 1000 -- how many hear of questions: of those behind each asks by itself, and lets nobody know
local token = take(ARGV[1], ARGV[2], ARGV[3], ARGV[4])
if token then
  -- Whatever happens here: the lock was taken, and an error would say that it was not.
  redis.pcall('ZREM', KEYS[3], ARGV[4])
  redis.pcall('DEL', KEYS[4])
  return {token, 0, 0, 0}
end
if token == nil then
  return {0, 0, 0, 0} -- nobody waits for this reply, and the waiter has the lock
end
local arrival = ARGV[5]
if arrival == '0' then
  local time = redis.call('TIME')
  arrival = string.format('%.0f', time[1] * 1000000 + time[2])
end
redis.call('ZADD', KEYS[3], arrival, ARGV[4])
redis.call('PEXPIRE', KEYS[3], ARGV[6])
local left, ahead = time_left(), redis.call('ZRANK', KEYS[3], ARGV[4])
if ARGV[7] == '1' and ahead < heard then
  for _, waiter in ipairs(redis.call('ZRANGE', KEYS[3], 0, heard - 1)) do
    if waiter ~= ARGV[4] then
      redis.pcall('PUBLISH', string.match(waiter, '^(.*):'), left .. ' ' .. waiter)
    end
  end
end
return {0, left, ahead, tonumber(arrival)}
