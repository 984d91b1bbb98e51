-- Shared part of the scripts that look at the holder. While somebody waits for a lock there may be a mark behind the
-- holder's value, from which a release, and only that, sees whether it has to look at the queue. A lock whose holder died
-- and which was then acquired past the queue has none; those who wait look for themselves at that moment.
local mark = '+'

-- is reports whether a value holds the lock, given what its key contains.
local function is(held, value)
  return held == value or held == value .. mark
end
