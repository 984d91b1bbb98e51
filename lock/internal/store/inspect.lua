-- Describes a lock.
--
-- KEYS  1 lock  2 fence  3 queue
-- Reply {value of the holder, '' if there is none; its remaining TTL, ms; the last token, 0 if unknown; waiters}
return {
  redis.call('GET', KEYS[1]) or '', math.max(redis.call('PTTL', KEYS[1]), 0),
  tonumber(redis.call('GET', KEYS[2]) or 0), redis.call('ZCARD', KEYS[3]),
}
