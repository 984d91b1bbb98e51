package notification

import "time"

// beatChannel is the channel of this system's own heartbeats.
func (p *pump) beatChannel() string { return p.system.keys.heartbeat + p.system.publisher.own }

// beat sends heartbeats and ends sessions on which they do not come back.
func (p *pump) beat() {
	tick := time.NewTicker(p.system.set.heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *pump) beatReturned(string) {}
