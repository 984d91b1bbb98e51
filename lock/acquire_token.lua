-- The end of acquire.lua: the lock is taken. A refusal does not come as far as the functions before this line, which take
-- Redis some time to define.
return next_token(KEYS[2])
