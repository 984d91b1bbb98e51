-- Tells what the journal is like now, and publishes that as a heartbeat if there is a channel. All of it in one script: a
-- heartbeat comes after every event up to the last one it names, on every connection.
--
-- KEYS[1]  the journal, a stream
-- KEYS[2]  its state, a hash: "epoch" names this life of the journal, "since" is when that began, in milliseconds, or absent
--          where the hash alone was evicted, "offset" counts the bytes ever appended in it, and
--          "last" is what a heartbeat found, for the next one: offset, entries, ID and time of the last one; "first" is
--          how old the journal was when one last looked: the time in the ID of the last entry, and that of the first
-- ARGV[1]  a new epoch, taken if there is none: the data was wiped, or the hash alone was evicted
-- ARGV[2]  milliseconds until a state that nobody uses is forgotten
-- ARGV[3]  channel for the heartbeat, or an empty string
-- ARGV[4]  number of the heartbeat
-- ARGV[5]  channel that somebody listens to on the server that is meant, or an empty string for any server
--
-- Reply    one string, which is also the heartbeat, with fields separated by newlines: number of the heartbeat, epoch,
--          offset, entries in the journal, ID of the last one, its time, run ID of the server, its replication ID, its
--          previous replication ID, its role, "down" if it is a replica without a link to its master, its ID in a
--          cluster, the time in the ID of the first entry, as of 10 seconds ago at most, and since when the epoch lasts.
--          What the server does not tell is empty. An error if this is not the server that is meant: it looks like that
--          of a master which became a replica, so that the client closes the connection that led here.

if ARGV[5] ~= '' and redis.pcall('PUBSUB', 'NUMSUB', ARGV[5])[2] == 0 then
  return redis.error_reply('READONLY the subscriptions are on another server')
end

local length = redis.call('XLEN', KEYS[1])
local state = redis.call('HMGET', KEYS[2], 'epoch', 'offset', 'last', 'first', 'since')
local last, stamp = '', ''
-- To read an entry is to copy all of it, which costs milliseconds if it is large. So what is needed of the last one is kept
-- for as long as nothing was appended or deleted.
local now = (state[2] or '') .. ' ' .. length .. ' '
if length > 0 and state[2] and state[3] and string.sub(state[3], 1, #now) == now then
  last, stamp = string.match(state[3], '^(%S+) (.*)$', #now + 1)
else
  for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)) do
    last = entry[1]
    stamp = string.match(entry[2][4] or '', '^"time":"([^"]*)"') or ''
    if state[2] then redis.pcall('HSET', KEYS[2], 'last', now .. last .. ' ' .. stamp) end
  end
end

-- The first entry goes with the events that come, and it is only a number to look at. So one heartbeat of all reads it, every
-- 10 seconds of the events' time.
local first, ms = '', string.match(last, '^%d+')
if ms then
  local looked, found = string.match(state[4] or '', '^(%d+) (%d+)$')
  if looked and looked + 0 <= ms + 0 and ms - looked < 10000 then
    first = found
  else
    local oldest = redis.pcall('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
    first = oldest and string.match(oldest[1], '^%d+') or ''
    if first ~= '' and state[2] then redis.pcall('HSET', KEYS[2], 'first', ms .. ' ' .. first) end
  end
end

local epoch, offset, since = state[1], state[2] or string.match(last, '%d+$') or '0', state[5] or ''
if not epoch then
  epoch = ARGV[1]
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'offset', offset)
  local time = length == 0 and redis.pcall('TIME')
  if time and time[1] then
    since = time[1] .. string.format('%03d', time[2] / 1000)
    redis.call('HSET', KEYS[2], 'since', since)
  end
end
if redis.call('PTTL', KEYS[2]) < ARGV[2] / 2 then
  redis.pcall('PEXPIRE', KEYS[2], ARGV[2]) -- if it is refused, the next heartbeat may do so
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
local id, previous, role, link = info('replication', {'master_replid', 'master_replid2', 'role', 'master_link_status'})
if link ~= 'down' then link = '' end
local node = redis.pcall('CLUSTER', 'MYID')
if type(node) ~= 'string' then node = '' end

local status = table.concat({ARGV[4], epoch, offset, length, last, stamp, run, id, previous, role, link, node, first, since}, '\n')
if ARGV[3] ~= '' then redis.call('PUBLISH', ARGV[3], status) end
return status
