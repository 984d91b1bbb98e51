-- The beginning of release.lua, whose keys, arguments and reply it shares: the usual case, that nobody waits. What comes
-- after it defines functions, which takes Redis as long as this.
if not ARGV[3] and redis.call('EXISTS', KEYS[3]) == 0 then
  local held = redis.call('GET', KEYS[1])
  if held == ARGV[1] then
    redis.call('DEL', KEYS[1])
    return 1
  end
  return held and 0 or -1
end
