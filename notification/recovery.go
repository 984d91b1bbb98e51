package notification

import (
	"context"
	"errors"
	"math"
	"time"

	"go.uber.org/zap"
)

const (
	// recoveryBatch is how many events are read from the journal at once, unless they are large.
	recoveryBatch = 500
	// uncounted is how many attempts are made to find the server that the connection is on.
	uncounted = 5
)

// baseline is what the dispatcher knew about the journal when it was last in touch with it.
type baseline struct {
	known    bool      // false before the first session
	identity identity  // whose journal it was
	contact  time.Time // when the last heartbeat came back
}

// wallClock returns the time without what Go measures besides, which stands still while a machine sleeps: the journal
// expires meanwhile.
func wallClock() time.Time { return time.Now().Round(0) }

// verdict is what a comparison of the journal with the baseline came to.
type verdict struct {
	reason GapReason // why events may be missing; empty if none can be
	from   envelope  // every later event has not passed yet; zero for the beginning
	forked bool      // the journal is not the one the positions of subscriptions belong to
	ended  bool      // nor is it, but nothing can be missing: it expired
}

// recover begins delivery in a new session, after everything it subscribes to was confirmed. What arrives live in
// the meantime waits in the queue; events that the journal gave already are recognised there by their position.
func (p *pump) recover(s *session) {
	d := p.dispatcher
	d.highest = place{}
	if p.system.set.history == 0 {
		p.missed(GapReconnected, position{})
	} else if !p.catchUp(s) {
		return // the session ended meanwhile, and the next one tries again
	}
	for _, t := range s.topics {
		// Those that were refused are live for nobody.
		p.goLive(t)
	}
	d.up = true
	for _, name := range d.early {
		p.added(name)
	}
	d.early = nil
	// Heartbeats sent before this moment may know less of the journal than was just read.
	d.trusted = p.beats.Load()
	p.setLive(s)
	p.replayer.wake()
}

// catchUp compares the journal with what passed before the cut, and delivers what did not.
func (p *pump) catchUp(s *session) bool {
	d := p.dispatcher
	if d.base.known {
		p.foreignMissed()
	}
	// What the connection brings is to follow what is read, so both must be of the same server.
	j := p.system.journal.beside(s.beats)
	for failures := 1; ; failures++ {
		start := time.Now()
		recovered, err := p.attempt(s, j)
		if err == nil {
			if j.listened != "" {
				p.counts.Store(true)
			}
			if d.base.known {
				p.system.set.logger.Info("notification: recovered",
					zap.Int("events", recovered), zap.Duration("took", time.Since(start)))
			}
			d.base.known = true
			return true
		}
		if s.ctx.Err() != nil {
			return false
		}
		p.note(err)
		if d.portion.failed(err) {
			failures = 1 // what comes next is not the same again
		}
		p.system.set.logger.Warn("notification: recovery failed", zap.Error(err))
		if permanent(err) {
			// Live delivery is worth more than none, and the subscribers know.
			p.missed(GapUnreadable, d.at().pos)
			return true
		}
		if elsewhere(err) {
			lookAround(s.ctx, p.system.client)
			if failures >= uncounted && p.counts.Load() {
				p.interrupt(s) // commands stay with another server, and so must the connection
				return false
			}
			if failures >= uncounted {
				j = p.system.journal // perhaps there is a proxy that listens in our place
			}
		}
		if !sleep(s.ctx, backoff(failures, minReconnect, maxReconnect)) {
			return false
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
		d.base.identity = now.identity
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
		s.judged = true
	}
	recovered, err = p.readOn(s.ctx, j)
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
		d.seen.historyChanged(time.Now())
	}
	if v.forked {
		p.rewind(v.from)
	}
	if v.ended {
		p.expired()
	}
	d.base.identity, d.base.contact = now.identity, wallClock()
	d.advance(v.from)
}

// goWithout prepares delivery that goes on though the journal cannot be read. Heartbeats must not find the same change
// of its identity again and again, and events must not be taken for old ones if the journal begins anew.
func (p *pump) goWithout(now status) {
	d := p.dispatcher
	d.base.identity = now.identity
	if now.last.pos.less(d.at().pos) {
		p.rewind(now.last)
		d.advance(now.last)
	}
}

// getsOn is called whenever a recovery takes a step: one that takes many, or has to try again, is not stuck.
func (p *pump) getsOn() { p.busySince.Store(time.Now().UnixNano()) }

// judge finds out where in the journal the events begin that have not passed, and whether some are gone.
func (p *pump) judge(ctx context.Context, j *journal, now status) (v verdict, err error) {
	d := p.dispatcher
	at := d.at()
	wiped := now.identity.origin != d.base.identity.origin
	switch {
	case wiped:
		v.reason = GapWiped
	case !d.base.identity.continues(now.identity):
		v.reason = GapFailover
	}
	because := func(reason GapReason) {
		if v.reason == "" || v.reason == GapFailover {
			v.reason = reason
		}
	}
	if wiped {
		// Events may have passed after the journal was wiped and before the connection was cut.
		v.forked = true
		v.from, err = p.fork(ctx, j)
		return v, err
	}
	if at.pos.isZero() {
		// The journal was empty, so everything in it is new. If it is full, more may have been in it, and after a long
		// cut it may have been filled and have expired.
		if now.length >= p.system.set.history || wallClock().Sub(d.base.contact) >= p.system.set.historyTTL {
			because(GapTrimmed)
		}
		return v, nil
	}
	v.from = at
	part, err := j.from(ctx, at, 1)
	if err != nil || part.intact {
		return v, err
	}
	if now.length == 0 {
		// An event published since we were last in touch would keep the journal alive for longer.
		switch {
		case v.reason != "" || wallClock().Sub(d.base.contact) >= p.system.set.historyTTL:
			because(GapTrimmed)
		case at.age(time.Now()) < p.system.set.historyTTL:
			because(GapWiped) // too young to have expired
		}
		// The next journal may begin before the end of this one.
		v.from = envelope{}
		v.forked, v.ended = v.reason != "", v.reason == ""
		return v, nil
	}
	first, err := j.between(ctx, position{}, lastPosition(), 1)
	if err != nil {
		return v, err
	}
	if len(first) > 0 && at.pos.less(first[0].pos) {
		because(GapTrimmed)
		v.from = envelope{}
		return v, nil
	}
	because(GapRolledBack)
	v.forked = true
	v.from, err = p.fork(ctx, j)
	return v, err
}

// age returns how old an event is by the publisher's clock or the server's, whichever makes it older: one of them may be
// ahead of ours. An event whose time is not known is very old.
func (e envelope) age(now time.Time) time.Duration {
	at, err := time.Parse(time.RFC3339Nano, e.stamp)
	if err != nil {
		return math.MaxInt64
	}
	return max(now.Sub(at), now.Sub(time.UnixMilli(int64(min(e.pos.ms, math.MaxInt64)))))
}

// fork finds the last event of the journal that has passed already. A journal only grows at its end, so all before
// it is common history, and all after it is new.
func (p *pump) fork(ctx context.Context, j *journal) (last envelope, err error) {
	passed := p.passed()
	var from position
	count := max(2, p.dispatcher.portion.size) // the last one is read again with those behind it
	for {
		p.getsOn()
		entries, err := j.between(ctx, from, lastPosition(), count)
		if err != nil {
			return envelope{}, err
		}
		for i := range entries {
			if passed(&entries[i].envelope) {
				last = entries[i].envelope
			}
		}
		if len(entries) < count {
			return last, nil
		}
		from = entries[len(entries)-1].pos
	}
}

// passed returns what tells whether an event of a journal that is not ours any more has passed. All that are remembered
// have, the one at the cursor has, and so have those before the oldest of these: they were delivered, or are older than
// the subscriptions. Only if it was published later than the one at the cursor, it is new: on a server whose clock is
// behind that of the one before.
func (p *pump) passed() func(*envelope) bool {
	d := p.dispatcher
	at, oldest, places := d.at(), d.seen.oldest(), d.seen.places()
	if !at.pos.isZero() {
		places[place{at.pos, at.stamp}] = true
	}
	if oldest.isZero() || at.pos.less(oldest) {
		oldest = at.pos
	}
	until, _ := time.Parse(time.RFC3339Nano, at.stamp)
	return func(e *envelope) bool {
		return places[place{e.pos, e.stamp}] || e.pos.less(oldest) && !e.time.After(until)
	}
}

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
func (p *pump) readOn(ctx context.Context, j *journal) (count int, err error) {
	d := p.dispatcher
	for {
		p.getsOn()
		part, err := j.from(ctx, d.at(), d.portion.size)
		if err != nil {
			return count, err
		}
		d.portion.arrived()
		if part.origin != d.base.identity.origin {
			return count, errWiped
		}
		if !part.intact {
			p.missed(GapTrimmed, d.at().pos) // the journal is trimmed faster than it is read
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
func (p *pump) fanOutRecovered(t *topic, m *Message, e envelope, was position) {
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
			for _, s := range t.subs {
				if s.missed(GapForeign, p.dispatcher.at().pos) {
					told++
				}
			}
		}
		t.mu.Unlock()
	}
	p.logGaps(GapForeign, told)
}
