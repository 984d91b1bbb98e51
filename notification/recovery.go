package notification

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// recoveryBatch is how many events are read from the journal at once, unless they are large.
	recoveryBatch = 500
	// uncounted is how many attempts are made to find the server that the connection is on.
	uncounted = 5
)

// recover begins delivery in a new session, after everything it subscribes to was confirmed. What arrives live in
// the meantime waits in the queue; events that the journal gave already are recognised there by their position.
func (p *pump) recover(s *session) {
	d := p.dispatcher
	d.highest = place{}
	all := true
	if p.system.set.history == 0 {
		p.missed(GapReconnected, position{})
	} else {
		var ended bool
		if all, ended = p.readMissed(s); ended {
			return // the next session tries again
		}
	}
	// Heartbeats sent before this moment may know less of the journal than was just read.
	d.trusted = p.beats.Load()
	complete := d.trusted
	if all {
		d.beat(complete)
	} else {
		complete++
	}
	for _, t := range s.topics {
		// Those that were refused are live for nobody.
		p.goLive(t, complete)
	}
	d.up = true
	for _, confirmed := range d.early {
		p.added(confirmed)
	}
	d.early = nil
	p.setLive(s)
	p.replayer.wake()
}

// readMissed compares the journal with what passed before the cut, and delivers what did not. It reports whether that was
// all of it, and whether the session has ended meanwhile.
func (p *pump) readMissed(s *session) (all, ended bool) {
	d := p.dispatcher
	if d.base.known {
		p.foreignMissed()
	}
	// What the connection brings is to follow what is read, so both must be of the same server.
	patience := patience{limit: p.system.set.deadline()}
	j := p.system.journal.beside(s.beats).within(&patience)
	for failures := 1; ; failures++ {
		start := time.Now()
		recovered, err := p.attempt(s, j)
		if err == nil {
			if j.listened != "" {
				p.counts.Store(true)
			}
			p.recovering.Over(p.system.set.logger, "notification: recovery succeeds again")
			if d.base.known {
				p.system.set.logger.Info("notification: recovered",
					zap.Int("events", recovered), zap.Duration("took", time.Since(start)))
			}
			if d.base.identity.role == "slave" {
				p.system.set.logger.Warn("notification: connected to a replica, which may skip events unnoticed")
			}
			d.base.known = true
			return true, false
		}
		if s.ctx.Err() != nil {
			return false, true
		}
		p.note(err)
		if d.portion.failed(err) {
			failures = 1 // what comes next is not the same again
		}
		p.recovering.Log(p.system.set.logger, zap.WarnLevel, "notification: recovery failed", zap.Error(err))
		if permanent(err) {
			// Live delivery is worth more than none, and the subscribers know.
			p.missed(GapUnreadable, d.at().pos)
			return false, false
		}
		if elsewhere(err) {
			lookAround(s.ctx, p.system.client)
			if failures >= uncounted && p.counts.Load() {
				s.end() // commands stay with another server, and so must the connection
				return false, true
			}
			if failures >= uncounted {
				j = p.system.journal.within(&patience) // perhaps there is a proxy that listens in our place
			}
		}
		if redisx.Sleep(s.ctx, redisx.Backoff(failures, minReconnect, maxReconnect)) != nil {
			return false, true
		}
	}
}

// attempt does one recovery and returns how many events it read. Repeated after an error it continues.
func (p *pump) attempt(s *session, j *journal) (recovered int, err error) {
	d := p.dispatcher
	p.getsOn()
	now, err := j.look(s.ctx, "", 0)
	if err != nil {
		return 0, err
	}
	if !d.base.known {
		p.missed(GapUnreadable, now.last.pos) // those that were live while the journal could not be read
		d.advance(now.last)
		d.identify(now.identity)
		return 0, nil
	}
	// Should reading fail, the next attempt must not tell of the same again.
	if !s.judged || now.identity != d.base.identity {
		v, err := p.judge(s.ctx, j, now)
		if err != nil {
			if permanent(err) {
				p.goWithout(now)
			}
			return 0, err
		}
		if !v.forked && !s.judged {
			// What comes on this connection was published after this. Anything older is passed on by somebody.
			d.highest = place{v.from.pos, v.from.stamp}
		}
		p.accept(now, v)
		s.judged, s.warned = true, v.reason != ""
	}
	recovered, err = p.readOn(s, j)
	if errors.Is(err, errWiped) {
		s.judged = false
	}
	return recovered, err
}

// accept takes the journal for what it is now, after telling of what the verdict found.
func (p *pump) accept(now status, v verdict) {
	d := p.dispatcher
	if v.reason != "" {
		p.missed(v.reason, v.from.pos)
		p.historyChanged()
	}
	if v.forked {
		p.rewind(v.from)
	}
	if v.ended {
		p.expired()
	}
	if v.reason == "" {
		p.foreignIn(d.suspect) // and these are lost
	}
	d.bridged = v.reason == "" && !v.forked && !v.ended && (d.bridged || d.suspect != nil)
	d.suspect = nil
	d.identify(now.identity)
	d.base.contact = wallClock()
	d.advance(v.from)
}

// historyChanged prepares for publishers that repeat what the server before had delivered and the one of now does not know.
func (p *pump) historyChanged() {
	d := p.dispatcher
	for _, s := range p.system.registry.subscriptions() {
		s.historyChanged(d.seen)
	}
	d.seen.historyChanged(time.Now())
}

// goWithout prepares delivery that goes on though the journal cannot be read. Heartbeats must not find the same change
// of its identity again and again, and events must not be taken for old ones if the journal begins anew.
func (p *pump) goWithout(now status) {
	d := p.dispatcher
	d.identify(now.identity)
	if now.last.pos.less(d.at().pos) {
		p.rewind(now.last)
		d.advance(now.last)
	}
}

// getsOn is called whenever a recovery takes a step: one that takes many, or has to try again, is not stuck.
func (p *pump) getsOn() { p.busySince.Store(time.Now().UnixNano()) }

// rewind forgets positions that belong to a history that is gone.
func (p *pump) rewind(to envelope) {
	for _, t := range p.system.registry.all() {
		t.mu.Lock()
		t.last = envelope{}
		if to.pos.less(t.passed) {
			t.passed = to.pos
		}
		if to.pos.less(t.start) {
			t.start = to.pos
		}
		for _, s := range t.subs {
			s.rewind(to.pos)
		}
		t.mu.Unlock()
	}
}

// missed tells every subscription that was live before the cut that events may be missing behind a place.
func (p *pump) missed(reason GapReason, behind position) {
	told := 0
	for _, s := range p.system.registry.subscriptions() {
		if s.missed(reason, behind) {
			told++
		}
	}
	p.logGaps(reason, told)
}

func (p *pump) logGaps(reason GapReason, subscriptions int) {
	if subscriptions > 0 {
		p.system.set.logger.Warn("notification: events may be missing",
			zap.String("reason", string(reason)), zap.Int("subscriptions", subscriptions))
	}
}

// readOn delivers the events from the cursor to the end of the journal, and returns how many there were. The event
// at the cursor is delivered too, to those it has not reached: the cut may have come between its copies.
func (p *pump) readOn(s *session, j *journal) (count int, err error) {
	d := p.dispatcher
	for {
		p.getsOn()
		at := d.at().pos
		part, err := j.from(s.ctx, d.at(), d.portion.size)
		if err != nil {
			return count, err
		}
		d.portion.arrived()
		if part.origin != d.base.identity.origin {
			return count, errWiped
		}
		// The journal is trimmed faster than it is read. Its beginning is always there, but not always the same.
		if !part.intact || at.isZero() && part.length >= int64(p.system.set.history) && !s.warned {
			p.missed(GapTrimmed, at)
		}
		for i := range part.entries {
			p.deliver(&part.entries[i])
		}
		count += len(part.entries)
		if !part.more {
			return count, nil
		}
	}
}

// errWiped makes a recovery start over, since the journal it judged is no more.
var errWiped = errors.New("notification: the journal was wiped during recovery")

// deliver hands an event of the journal to the topics it matches.
func (p *pump) deliver(e *entry) {
	d := p.dispatcher
	was := d.seen.repeats(e.envelope, e.value)
	done := make(map[*topic]bool, len(e.channels))
	for _, channel := range e.channels {
		for _, t := range p.system.registry.matching(channel) {
			if done[t] {
				continue
			}
			done[t] = true
			m := e.message(channel)
			if t.glob {
				m.Pattern = t.name
			}
			p.fanOutRecovered(t, m, e.envelope, was)
		}
	}
	if len(done) > 0 {
		p.system.metrics.arrived(time.Since(e.time))
	}
	d.seen.add(e.envelope, e.value)
	d.advance(e.envelope)
}

// fanOutRecovered offers an event of the journal to the subscriptions that were live before the cut.
func (p *pump) fanOutRecovered(t *topic, m *Message, e envelope, was uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.everLive {
		return
	}
	before := t.passed
	t.last, t.passed = e, e.pos
	for _, s := range t.subs {
		if s.offerRecovered(m, e.pos, before, was) == catchUp {
			p.replayer.add(s)
		}
	}
}

// foreignMissed tells the subscriptions that other programs publish to that their messages are in no journal.
func (p *pump) foreignMissed() {
	told := 0
	for _, t := range p.system.registry.all() {
		t.mu.Lock()
		if t.foreign && t.everLive {
			told += p.tellForeign(t)
		}
		t.mu.Unlock()
	}
	p.logGaps(GapForeign, told)
}

// tellForeign is called with topic.mu held. It returns how many subscriptions were told.
func (p *pump) tellForeign(t *topic) (told int) {
	for _, s := range t.subs {
		if s.missed(GapForeign, p.dispatcher.at().pos) {
			told++
		}
	}
	return told
}
