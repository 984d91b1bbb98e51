package embedded

import (
	"bufio"
	"bytes"

	"github.com/alicebob/miniredis/v2/server"
)

// precise names the commands that Redis rounds to the nearest second, with those that
// give the milliseconds. miniredis cuts off instead, so that a key set to live for 10
// seconds has 9 left at once.
func precise(cmd string) (ms string, ok bool) {
	switch cmd {
	case "TTL":
		return "PTTL", true
	case "EXPIRETIME":
		return "PEXPIRETIME", true
	default:
		return "", false
	}
}

// rounding is the answer as a script, which a transaction can queue.
const rounding = `local ms = redis.call(ARGV[1], KEYS[1])
if ms < 0 then return ms end
return math.floor((ms + 500) / 1000)`

// seconds answers a command of a connection in whole seconds by the one for milliseconds.
func (ps *pubsub) seconds(c *server.Peer, ms, key string) {
	ps.backend.Dispatch(c, []string{"EVAL", rounding, "1", key, ms})
}

// secondsInScript is seconds for a command inside a script, where scripts cannot be run.
// It returns false when miniredis has to answer, which is with an error.
func (ps *pubsub) secondsInScript(c *server.Peer, ms, key string) bool {
	var reply bytes.Buffer
	out := bufio.NewWriter(&reply)
	inner := server.NewPeer(out)
	inner.Ctx = c.Ctx // the script's: its database, and that the lock is held
	ps.backend.Dispatch(inner, []string{ms, key})
	if err := out.Flush(); err != nil {
		return false
	}
	parsed, err := server.ParseReply(bufio.NewReader(&reply))
	if err != nil {
		return false
	}
	n, ok := parsed.(int)
	if !ok {
		return false
	}
	if n >= 0 {
		n = (n + 500) / 1000
	}
	c.WriteInt(n)
	return true
}
