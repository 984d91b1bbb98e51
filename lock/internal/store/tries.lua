-- Shared by the scripts that look for a claim's lock, whichever try has set it.

-- try_of returns the number of the try that has set what a lock's key contains, nil if that is not the claim's.
local function try_of(held, claim)
  if type(held) == 'string' and string.sub(held, 1, #claim + 1) == claim .. '#' then
    return tonumber(string.sub(held, #claim + 2))
  end
end
