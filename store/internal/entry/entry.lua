-- What scripts know of entries: the content of a key, as package entry reads it.
--
--   cs1 <kind><codec><compression> <version> <until>[+<ttl>] <fence> <write> <tags>\n<payload>
--
-- Numbers are below 2^53, up to which floating point is exact. Scripts look at one key at a time, and write last, so that
-- a script which fails has changed nothing; delete.lua has an exception, and says so.

-- clock returns the server's clock in microseconds.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function digits(text)
  local number = #text <= 16 and tonumber(text)
  return number and number <= 9007199254740991 and number
end

-- parse returns what a text says, or nil if it is no entry.
local function parse(raw)
  local kind, coding, version, ends, span, fence, write, tags, start =
    string.match(raw, '^cs1 ([vasd])([!-~][!-~]) (%d+) (%d+)(%+?%d*) (%d+) ([!-~]+) ([!-~]+)\n()')
  if not kind then return nil end
  local entry = {
    kind = kind, coding = coding, version = digits(version), ends = digits(ends), fence = digits(fence),
    write = write, tags = tags, start = start, -- of the payload
  }
  if not entry.version or entry.version == 0 or not entry.ends or not entry.fence then return nil end
  if span ~= '' then
    entry.ttl = digits(string.sub(span, 2)) -- ms
    if not entry.ttl then return nil end
  end
  return entry
end

-- readable reports whether a value is of a codec, or codec is '-', and of a compression that there is.
local function readable(entry, codec)
  if entry.kind == 'a' or entry.kind == 'd' then return true end
  local theirs, compression = string.sub(entry.coding, 1, 1), string.sub(entry.coding, 2)
  return (codec == '-' or theirs == codec) and (compression == '-' or compression == 's')
end

-- accepted returns the entry that a text says, or false if it is none, or one of other kinds than those that are named, or a
-- value that cannot be read with a codec.
local function accepted(raw, kinds, codec)
  local entry = parse(raw)
  if not entry or not string.find(kinds, entry.kind, 1, true) or not readable(entry, codec) then return false end
  return entry
end

-- read_entry returns the entry of a key and its text. The entry is nil if there is none, and false if what is there is not
-- accepted.
local function read_entry(key, kinds, codec)
  local raw = redis.pcall('GET', key)
  if not raw then return nil end
  if type(raw) == 'table' then
    if string.find(raw.err, 'WRONGTYPE', 1, true) then return false end
    error(raw.err, 0)
  end
  return accepted(raw, kinds, codec), raw
end

-- read_header returns what read_entry does, without the text. It takes a thousandth of the time if the value is large. The
-- whole is read if the header is very long, and for a user who may not call GETRANGE.
local function read_header(key, kinds, codec)
  local head = redis.pcall('GETRANGE', key, 0, 1023)
  if type(head) ~= 'string' or not string.find(head, '\n', 1, true) then
    local entry = read_entry(key, kinds, codec)
    return entry
  end
  return accepted(head, kinds, codec)
end

-- fresh reports whether there is a value at a time, and it is fresh.
local function fresh(entry, now)
  return entry and entry.kind ~= 'd' and (entry.ends == 0 or now < entry.ends)
end

-- write_entry writes an entry, which has all fields but start, and its payload. The key lasts for as long as the value is
-- fresh, and beyond that for keep milliseconds. Without a ttl it is what is left.
local function write_entry(key, entry, payload, now, keep)
  local ends = string.format('%.0f', entry.ends)
  if entry.ends > 0 then
    ends = ends .. string.format('+%.0f', entry.ttl or math.max(math.ceil((entry.ends - now) / 1000), 0))
  end
  local text = string.format('cs1 %s%s %.0f %s %.0f %s %s\n',
    entry.kind, entry.coding, entry.version, ends, entry.fence, entry.write, entry.tags) .. payload
  if entry.ends == 0 then
    redis.call('SET', key, text)
  else
    redis.call('SET', key, text, 'PX', string.format('%.0f', math.max(math.ceil((entry.ends - now) / 1000) + keep, 1)))
  end
end
