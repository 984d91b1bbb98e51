package notification

import (
	"context"
	"math"
	"time"
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
	count := max(smallest, p.dispatcher.portion.size) // the last one is read again with those behind it
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
