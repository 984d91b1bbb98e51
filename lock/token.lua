-- Shared part of the scripts that deal with the fence of a resource. next_token counts it up and returns the new token.
--
-- A fence that does not exist starts at the server's clock in microseconds, which is above everything an earlier one
-- can have reached unless locks were granted faster than one per microsecond. It stays below 2^53.
--
-- A fence lives for a day, so that resources which never come back cost nothing for ever. With several masters, whose
-- clocks may differ, that begins anew with each token: one of them may have to pass on what another one's clock began
-- with.
local fence_retention = 86400000

local function next_token(fence)
  local token = redis.call('INCR', fence)
  if token > 1 then
    if several then
      redis.call('PEXPIRE', fence, fence_retention)
    end
    return token
  end
  local now = redis.call('TIME')
  token = tonumber(now[1]) * 1000000 + tonumber(now[2])
  redis.call('SET', fence, string.format('%.0f', token), 'PX', fence_retention)
  return token
end
