-- Tells whose entries the commands behind it in one transaction read.
--
-- KEYS[1]  the journal; not used, but it puts the script on its node of a cluster
-- KEYS[2]  its state, as in status.lua
-- ARGV[1]  channel that somebody listens to on the server that is meant, or an empty string for any server
--
-- Reply    epoch and offset, each empty if there is none; or an error as in status.lua

if ARGV[1] ~= '' and redis.pcall('PUBSUB', 'NUMSUB', ARGV[1])[2] == 0 then
  return redis.error_reply('READONLY the subscriptions are on another server')
end

local state = redis.call('HMGET', KEYS[2], 'epoch', 'offset')
return {state[1] or '', state[2] or ''}
