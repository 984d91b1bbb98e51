-- publish says on a channel that a key has changed, if anybody listens there: those for whom this server does not track keys,
-- see package near. A listener has a subscription on each master, so what this server knows is enough.
local function publish(channel, key)
  local listeners = redis.pcall('PUBSUB', 'NUMSUB', channel)
  if type(listeners) == 'table' and listeners[2] == 0 then return end
  redis.pcall('PUBLISH', channel, key) -- also if it is not known
end
