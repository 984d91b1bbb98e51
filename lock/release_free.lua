-- The beginning of release.lua, whose keys, arguments and reply it shares: the usual case, that nobody waits. What comes
-- after it defines functions, which takes Redis as long as this.
local held = redis.call('GET', KEYS[1])
if held == ARGV[1] and not ARGV[2] then
  return redis.call('DEL', KEYS[1])
end
