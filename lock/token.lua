-- Shared beginning of the scripts that grant a lock: counts the fence of a resource up and returns the new token.
-- A fence that does not exist starts at the server's clock in microseconds, which is above everything an earlier one
-- can have reached unless locks were granted faster than one per microsecond. It stays below 2^53.
--
-- A fence lives for its retention. With several masters, whose clocks may differ, that begins anew with each token
-- (several): one of them may have to pass on what another one's clock began with.
local function next_token(fence, retention, several)
  local token = redis.call('INCR', fence)
  if token > 1 then
    if several then
      redis.call('PEXPIRE', fence, retention)
    end
    return token
  end
  local now = redis.call('TIME')
  token = tonumber(now[1]) * 1000000 + tonumber(now[2])
  redis.call('SET', fence, string.format('%.0f', token), 'PX', retention)
  return token
end
