-- Shared by the scripts that take a lock. Their keys: 1 lock, 2 fence, 3 queue, 4 reserved.

-- may_take reports whether a caller may take the lock, which is free: nobody waits, or it is reserved for this caller, or
-- it is not reserved and the caller waits. `name` is its name in the queue, '' if it does not queue: those who only try
-- do not get ahead of those who wait.
local function may_take(name)
  if redis.call('EXISTS', KEYS[3], KEYS[4]) == 0 then
    return true
  end
  local reserved = redis.call('GET', KEYS[4])
  if reserved then
    return reserved == name
  end
  return name ~= ''
end

-- take makes a claim the holder of the lock, if it may be, and returns the fencing token. The token comes first: should
-- that fail, nobody holds the lock. It returns false if somebody else is there, or nil if this is an earlier try than the
-- one that has set the lock: it was sent again, and comes after its repetition. The lock of an earlier try lasts no longer
-- than it did, as its holder counts from before that was sent; nobody can have extended it.
local function take(claim, try, ttl, name)
  local held = redis.call('GET', KEYS[1])
  local before = try_of(held, claim)
  if before and before > tonumber(try) then
    return nil
  end
  if not before and (held or not may_take(name)) then
    return false
  end
  local token = next_token(KEYS[2])
  if before then
    redis.call('SET', KEYS[1], claim .. '#' .. try, 'KEEPTTL')
  else
    redis.call('SET', KEYS[1], claim .. '#' .. try, 'PX', ttl)
  end
  return token
end

-- time_left returns after how many ms the lock may be free: the TTL of the holder, or of the reservation, or of the queue
-- of which nobody has come; 1 at least, or 0 if that is unknown.
local function time_left()
  for _, key in ipairs({KEYS[1], KEYS[4], KEYS[3]}) do
    local left = redis.call('PTTL', key)
    if left == -1 then
      return 0
    end
    if left >= 0 then
      return math.max(left, 1)
    end
  end
  return 0
end
