-- The fencing tokens of a lock that lives on several servers. next_token counts: if each took its own clock they would
-- never agree. A fence that does not exist starts at the server's clock in microseconds, which is above everything that
-- an earlier one can have reached unless locks were granted faster than one per microsecond. It stays below 2^53. Its
-- day begins with each token, as one server may have to pass on what the clock of another one began with.
local function next_token(fence)
  local token = redis.call('INCR', fence)
  if token > 1 then
    redis.call('PEXPIRE', fence, 86400000)
    return token
  end
  local time = redis.call('TIME')
  token = time[1] * 1000000 + time[2]
  redis.call('SET', fence, string.format('%.0f', token), 'PX', 86400000)
  return token
end
