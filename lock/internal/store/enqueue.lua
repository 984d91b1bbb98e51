-- Takes a lock if it is free and this waiter may have it; otherwise the waiter joins the queue, or stays in it. All in one
-- step, so that no release can fall in between.
--
-- KEYS  1 lock  2 fence  3 queue  4 reserved
-- ARGV  1 value  2 TTL of the lock, ms  3 name of the waiter  4 its arrival as an earlier reply gave it, 0 at first
--       5 TTL of the queue, ms  6 1 to let the others know that somebody has looked, 0 not to
-- Reply {token, or 0 if it has to wait; ms after which the lock may be free; waiters ahead; arrival, us}
local heard = 1000 -- how many hear of questions: of those behind each asks by itself, and lets nobody know
local held = redis.call('GET', KEYS[1])
if held == ARGV[1] or (not held and may_take(ARGV[3])) then
  local token = held and next_token(KEYS[2]) or take(ARGV[1], ARGV[2])
  redis.call('ZREM', KEYS[3], ARGV[3])
  redis.call('DEL', KEYS[4])
  return {token, 0, 0, 0}
end
local arrival = ARGV[4]
if arrival == '0' then
  local time = redis.call('TIME')
  arrival = string.format('%.0f', time[1] * 1000000 + time[2])
end
redis.call('ZADD', KEYS[3], arrival, ARGV[3])
redis.call('PEXPIRE', KEYS[3], ARGV[5])
local left, ahead = time_left(), redis.call('ZRANK', KEYS[3], ARGV[3])
if ARGV[6] == '1' and ahead < heard then
  for _, waiter in ipairs(redis.call('ZRANGE', KEYS[3], 0, heard - 1)) do
    if waiter ~= ARGV[3] then
      redis.pcall('PUBLISH', string.match(waiter, '^(.*):'), left .. ' ' .. waiter)
    end
  end
end
return {0, left, ahead, tonumber(arrival)}
