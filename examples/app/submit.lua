-- Adds a workflow to a run, once, however many processes try.
--
-- KEYS[1] the state
-- KEYS[2] the set of unfinished workflows
-- ARGV[1] the first state
-- ARGV[2] the workflow's ID
-- ARGV[3] how many seconds both are kept
-- Reply: 1 if it is new, 0 if it was there.
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[3]) then
  return 0
end
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
