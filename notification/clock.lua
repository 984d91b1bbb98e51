-- Tells the time on the server that has the journal. For publishers who do not know its clock yet: all others learn it
-- from the places that their events are given.
--
-- KEYS[1]  the journal; not used, but it puts the script on its node of a cluster
--
-- Reply    the time as the places of events begin, in milliseconds

local time = redis.call('TIME')
return string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
