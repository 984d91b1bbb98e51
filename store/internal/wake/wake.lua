-- The text of a lease is a line with its token, and one for each inbox whose process waits for its end. Scripts that end a
-- lease let those know, after they have written: to nobody, and to the one that waits, a failure of this makes a difference.

-- holds reports whether the text of a lease begins with a token.
local function holds(held, token)
  return type(held) == 'string' and string.sub(held, 1, #token + 1) == token .. '\n'
end

-- wake sends a word, the server's clock and what else belongs to it, to the inboxes in the text of a lease.
local function wake(lease, held, word, body)
  local token, inboxes = string.match(held, '^(%x+)\n(.+)$')
  if not token then return end -- nobody waits
  local message = string.format('%s %s %.0f %d ', word, token, clock(), #lease) .. lease .. body
  for inbox in string.gmatch(inboxes, '([^\n]+)\n') do
    redis.pcall('PUBLISH', inbox, message)
  end
end

-- revoke ends a lease, so that its holder stores nothing any more. It returns the text of the lease, false if there is none, and
-- a table if something else is there.
local function revoke(lease)
  local held = redis.pcall('GET', lease)
  if type(held) == 'string' then
    redis.call('DEL', lease)
    wake(lease, held, 'revoked', '')
  end
  return held
end
