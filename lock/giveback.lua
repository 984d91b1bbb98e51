-- Shared part of the scripts that release locks. give_back releases the lock of now, whose value is `held`, if that is
-- `value`, and returns what release.lua replies.
local function give_back(held, value)
  if not is(held, value) then
    return held and 0 or -1
  end
  local heir = hand_over(nil)
  if heir and grant > 0 then
    return 2
  end
  redis.call('DEL', lock)
  return heir and 2 or 1
end
