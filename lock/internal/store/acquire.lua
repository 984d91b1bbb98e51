-- Takes a lock if it is free and nobody waits for it.
--
-- KEYS  1 lock  2 fence  3 queue  4 reserved
-- ARGV  1 claim  2 number of the try  3 TTL, ms
-- Reply the token, above 0, if the claim holds the lock now by this try; otherwise -1 - the ms after which it may be free.
return take(ARGV[1], ARGV[2], ARGV[3], '') or -1 - time_left()
