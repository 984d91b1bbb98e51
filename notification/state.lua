-- Tells what the journal looks like now, and sends that as a heartbeat if asked to. All of it in one script: a
-- heartbeat comes after every event up to the last ID it names, on every connection.
--
-- KEYS[1]  the journal, a stream
-- KEYS[2]  the origin, a string that marks this data set: a server that lost its data has another one, or none
-- ARGV[1]  a new origin, taken if there is none
-- ARGV[2]  milliseconds until an origin nobody asked for is forgotten
-- ARGV[3]  channel for the heartbeat, or an empty string
-- ARGV[4]  number of the heartbeat
-- ARGV[5]  channel that somebody listens to on the server that is meant, or an empty string for any server
--
-- Reply    one string, which is also the heartbeat, with fields separated by newlines: number of the heartbeat,
--          origin, run ID of the server, its replication ID, its previous replication ID, events in the journal,
--          ID of the last event, its time, role of the server. What the server does not tell is empty. An error if
--          this is not the server that is meant, as in read.lua.

if ARGV[5] ~= '' and redis.pcall('PUBSUB', 'NUMSUB', ARGV[5])[2] == 0 then
  return redis.error_reply('READONLY the subscriptions are on another server')
end

local origin = redis.call('GET', KEYS[2])
if not origin then
  origin = ARGV[1]
  redis.call('SET', KEYS[2], origin, 'PX', ARGV[2])
elseif redis.call('PTTL', KEYS[2]) < ARGV[2] / 2 then
  redis.pcall('PEXPIRE', KEYS[2], ARGV[2]) -- the next heartbeat may do so, too
end

local function info(section, names)
  local text = redis.pcall('INFO', section)
  local values = {}
  for i, name in ipairs(names) do
    values[i] = type(text) == 'string' and string.match(text, '\n' .. name .. ':(%w+)') or ''
  end
  return unpack(values)
end
local run = info('server', {'run_id'})
local id, previous, role = info('replication', {'master_replid', 'master_replid2', 'role'})

local length = redis.call('XLEN', KEYS[1])
local last, stamp = '', ''
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)) do
  last = entry[1]
  stamp = string.match(entry[2][4] or '', '^"time":"([^"]*)"') or ''
end

local state = table.concat({ARGV[4], origin, run, id, previous, length, last, stamp, role}, '\n')
if ARGV[3] ~= '' then redis.call('PUBLISH', ARGV[3], state) end
return state
