package notification

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// beat sends heartbeats. They go out on an ordinary connection and have to come back on the subscribing one: only
// that shows that the server still delivers to it. The reader notes their return, and the session's timer closes
// a connection on which none returned for too long.
func (p *pump) beat() {
	tick := time.NewTicker(p.system.set.heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-p.hurry:
		case <-p.ctx.Done():
			return
		}
		s := p.current()
		if s == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(p.ctx, p.system.set.heartbeat)
		err := p.sendBeat(ctx, s)
		cancel()
		if err != nil && s.ctx.Err() == nil {
			p.system.set.logger.Debug("notification: heartbeat not sent", zap.Error(err))
			if elsewhere(err) {
				s.end() // commands go to another server, and so must the connection
			}
		}
	}
}

// beatSoon makes a heartbeat go out at once.
func (p *pump) beatSoon() {
	select {
	case p.hurry <- struct{}{}:
	default:
	}
}

// sendBeat sends what the journal is like, or only the number of the heartbeat if nobody could make use of more.
func (p *pump) sendBeat(ctx context.Context, s *session) error {
	number := p.beats.Add(1)
	if p.system.set.history > 0 {
		_, err := p.beside(s).look(ctx, s.beats, number)
		if err == nil || !permanent(err) {
			return err
		}
		if !s.blind {
			s.blind = true
			// Redis before 7.2 does not say which command a user lacks.
			p.system.set.logger.Warn("notification: the state of the journal cannot be read, so nothing is recovered",
				zap.Error(err), zap.String("needed", "GET, SET, PTTL, PEXPIRE, XLEN, XREVRANGE"))
		}
		// Who may not read the journal still has to know that the connection works.
	}
	// A script for the same reason as with events: in a cluster it runs on the node we listen to.
	_, err := p.system.journal.beat.Run(ctx, p.system.client.Process, []string{p.system.keys.journal}, s.beats, number)
	return err
}

// beatReturned learns from a heartbeat. It comes after every event published before it, so all events up to the
// last one it names have passed: in quiet times, and on channels nobody here listens to, this moves the cursor.
func (p *pump) beatReturned(it item) {
	d := p.dispatcher
	now, ok := parseStatus(it.payload)
	if !ok {
		d.identifies("") // the state may not be read any more, and nobody would learn of another data set
		return
	}
	if !d.up || now.beat <= d.trusted {
		return
	}
	if !d.base.known {
		// The journal could not be read when the session began. Now it can, and nothing was missed since.
		d.base.known, d.base.identity = true, now.identity
	}
	if now.identity.origin != d.base.identity.origin || !d.base.identity.continues(now.identity) {
		p.system.set.logger.Warn("notification: another data set behind the same connection, recovering")
		it.session.end()
		return
	}
	d.identify(now.identity)
	if now.last.pos.less(d.highest.pos) && now.length > 0 {
		p.system.set.logger.Warn("notification: the journal ends before an event that passed, recovering")
		it.session.end()
		return
	}
	if now.length == 0 {
		p.expired()
		d.highest = place{}
	}
	// A server that does not say who it is may be one without an order of channels and globs, such as miniredis.
	if now.identity.run != "" && d.highest.pos.less(now.last.pos) {
		d.highest = place{now.last.pos, now.last.stamp}
	}
	d.seen.add(now.last, "")
	d.advance(now.last) // of an empty journal, to the beginning
	d.beat(now.beat)
}

// expired forgets the places in a journal that is gone, as the next one may begin before them.
func (p *pump) expired() {
	for _, t := range p.system.registry.all() {
		t.mu.Lock()
		if end := p.dispatcher.start(t); !end.isZero() { // or it was empty before
			for _, s := range t.subs {
				s.expired(t.passed, end)
			}
			t.last, t.passed, t.start = envelope{}, position{}, position{}
		}
		t.mu.Unlock()
	}
}
