-- The key of a tag has its epoch: an ID that is made up when a value with the tag is to be stored and there is none. A value has
-- the epochs of its tags with it, and counts only while they are the same.

-- read_epoch returns the epoch in a key: nil if there is none, and false if something else is there.
local function read_epoch(key)
  local epoch = redis.pcall('GET', key)
  if not epoch then return nil end
  if type(epoch) == 'table' then
    if string.find(epoch.err, 'WRONGTYPE', 1, true) then return false end
    error(epoch.err, 0)
  end
  return string.match(epoch, '^%x+$') or false
end
