-- The fencing tokens of a lock that lives on one server. next_token returns the server's clock in microseconds, or one
-- more than the last token where that is larger. So a counter that is old, because it comes from a snapshot or from a
-- replica that was behind, repeats no token, as long as clocks do not step back. It stays below 2^53, and a fence that
-- has not been used for a day is not needed any more.
local function next_token(fence)
  local time = redis.call('TIME')
  local token = time[1] * 1000000 + time[2]
  local last = redis.call('SET', fence, string.format('%.0f', token), 'PX', 86400000, 'GET')
  if last and tonumber(last) >= token then
    token = tonumber(last) + 1
    redis.call('SET', fence, string.format('%.0f', token), 'PX', 86400000)
  end
  return token
end
