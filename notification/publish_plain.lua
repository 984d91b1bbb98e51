-- Publishes one event to all of its channels without history. A script only so that the copies are adjacent on
-- every connection.
--
-- KEYS[1]  the journal; not used, but it puts the script on the node of a cluster where the subscribers listen
-- ARGV[1]  payload
-- ARGV[2]  and all that follow: the channels
--
-- Reply    number of channels

for i = 2, #ARGV do
  redis.call('PUBLISH', ARGV[i], ARGV[1])
end
return #ARGV - 1
