package embedded

import (
	"strconv"
	"time"

	"github.com/alicebob/miniredis/v2/server"
)

// time answers TIME of a connection. It returns false when miniredis may, as nobody has called FastForward.
func (ps *pubsub) time(c *server.Peer, p *peer) bool {
	ps.redis.Lock()
	ahead := ps.ahead
	ps.redis.Unlock()
	switch {
	case ahead == 0:
		return false
	case p.inTx: // a script can be queued, and comes back here when it is executed
		ps.backend.Dispatch(c, []string{"EVAL", "return redis.call('TIME')", "0"})
	default:
		writeTime(c, ahead)
	}
	return true
}

// writeTime writes what TIME returns on a clock that is ahead by so much.
func writeTime(c *server.Peer, ahead time.Duration) {
	micros := time.Now().Add(ahead).UnixMicro()
	c.WriteStrings([]string{strconv.FormatInt(micros/1e6, 10), strconv.FormatInt(micros%1e6, 10)})
}
