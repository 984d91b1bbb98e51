-- Tells the time on the server that has the journal. For publishers who do not know its clock yet: all others learn it
-- from the replies to their events.
--
-- KEYS[1]  the journal; not used, but it puts the script on its node of a cluster
--
-- Reply    the server's time in milliseconds

local time = redis.call('TIME')
return string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
