-- Calls what the scripts of locks, events and the store call, on a key that does not exist and does not exist afterwards. Redis
-- judges each call like any other: a replica, a server out of memory or without enough replicas, and a user who lacks a
-- permission or a server that lacks a command refuse it.
--
-- KEYS  1 the key
-- ARGV  1 the channel that events would go to, which nobody listens to; empty on a lock node, which has no events
--       2 1 to call as well what cannot be called without a write; the key is gone again at the end of the script
-- Reply 1, or the first error with the name of the command behind it: [SET].
local key, channel, thorough = KEYS[1], ARGV[1], ARGV[2] == '1'

local failed
local function try(name, ...)
  if failed then return end
  local reply = redis.pcall(name, ...)
  if type(reply) == 'table' and reply.err then
    failed = redis.error_reply(reply.err .. ' [' .. name .. ']')
  end
end

try('SET', key, '', 'XX')
try('GET', key)
try('EXISTS', key)
try('PTTL', key)
try('PEXPIRE', key, 1)
try('DEL', key)
try('ZADD', key, 'XX', 1, 'm')
try('ZREM', key, 'm')
try('ZRANGE', key, 0, 0)
try('ZRANK', key, 'm')
try('ZCARD', key)
try('ZPOPMIN', key)
try('TIME')
if thorough then
  try('INCR', key)
  try('DEL', key)
end
if thorough and channel ~= '' then
  try('HINCRBY', key, 'f', 1)
  try('HSET', key, 'f', 1)
  try('HSETNX', key, 'f', 1)
  try('DEL', key)
end
if channel ~= '' then
  try('XADD', key, 'NOMKSTREAM', '*', 'f', 'v')
  try('HGET', key, 'f')
  try('HMGET', key, 'f')
  try('XDEL', key, '1-1')
  try('XTRIM', key, 'MINID', '1-1')
  try('XLEN', key)
  try('XRANGE', key, '-', '+', 'COUNT', 1)
  try('XREVRANGE', key, '+', '-', 'COUNT', 1)
  try('PUBLISH', channel, '')
end
return failed or 1
