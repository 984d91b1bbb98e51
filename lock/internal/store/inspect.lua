-- Describes a lock.
--
-- KEYS  1 lock  2 fence  3 queue
-- Reply {value of the holder; its remaining TTL, ms, -1 if it has none, -2 if there is no holder; the last token, 0 if
--        unknown; waiters}
return {
  redis.call('GET', KEYS[1]) or '', redis.call('PTTL', KEYS[1]),
  tonumber(redis.call('GET', KEYS[2]) or 0), redis.call('ZCARD', KEYS[3]),
}
