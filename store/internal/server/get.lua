-- Reads a key and the clock of the server that has it.
--
-- KEYS  1 entry
-- Reply {{seconds, microseconds}, value, nil or an error}
return {redis.call('TIME'), redis.pcall('GET', KEYS[1])}
