-- Shared part of the scripts that reply with a list. plain returns a reply as it may stand there: of an error its text.
-- go-redis stops reading a list at an error that it has a type for, such as OOM, and takes what is left of it for the
-- replies to the commands that follow.
local function plain(reply)
  return type(reply) == 'table' and reply.err or reply
end
