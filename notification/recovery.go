package notification

import (
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification/internal/feed"
	"github.com/compozy/cache/notification/internal/journal"
)

const (
	minRecoveryPause = 10 * time.Millisecond
	maxRecoveryPause = time.Second
)

// Up implements feed.Sink: every name that a session began with is confirmed. What was missed is in the journal, if it is
// still the same.
func (d *dispatcher) Up(s *feed.Session) {
	d.settle()
	d.session, d.touched = s.Number, true
	if !d.history {
		d.opened(s)
		return
	}
	d.recover(s, false)
}

// opened begins to deliver what arrives.
func (d *dispatcher) opened(s *feed.Session) {
	d.up, d.held = true, false
	switch {
	case !d.history:
		d.health.set(served)
	case !d.catchup.waits():
		d.recovered()
	}
	d.join(d.topics.waiting(), true)
	d.deliverEarly(s)
	d.barrier.reach(d.beat)
	if len(d.topics.waiting()) > 0 || d.barrier.awaited() {
		d.beatSoon() // for those who came after the one of the session
	}
}

// deliverEarly delivers what came before the session was up.
func (d *dispatcher) deliverEarly(s *feed.Session) {
	for n := range d.lost {
		d.lose(n)
	}
	if len(d.lost) > 0 {
		d.foreignMissed()
	}
	early := d.early
	d.early, d.earlyBytes, d.lost = nil, 0, nil
	for _, e := range early {
		d.Message(s, e.name, e.channel, e.payload)
	}
}

// recovered is called when nobody has to catch up any more after a cut, but for those without room. The catch-up may call it
// at any time.
func (d *dispatcher) recovered() {
	if took, tell := d.health.recovered(); tell {
		d.log.Info("notification: recovered", zap.Int64("events", d.catchup.fresh.Swap(0)), zap.Duration("took", took))
	}
}

// compare learns from a heartbeat. Usually the journal has only grown.
func (d *dispatcher) compare(s *feed.Session, now *journal.Status) {
	k := &d.known
	switch {
	case now.Identity.LinkDown:
		d.hold()
	case d.held:
		d.recover(s, true)
	case k.epoch == "":
		// The journal could not be read when the session began. Now it can, and nothing was missed since.
		k.identity = now.Identity
		d.verified(now)
	case now.Epoch != k.epoch, now.Identity != k.identity, now.Offset < k.passed.Pos.Offset,
		now.Length > 0 && now.Last.Pos.Less(d.highest):
		d.recover(s, true)
	default:
		if now.Length == 0 && k.passed.Pos.Ms != 0 {
			d.expired(now.Offset)
		}
		d.verified(now)
	}
}

// verified notes that everything up to the end of the journal has passed.
func (d *dispatcher) verified(now *journal.Status) {
	k := &d.known
	k.epoch = now.Epoch
	if end := endPosition(now); !end.Less(k.passed.Pos) {
		k.passed = now.Cursor()
	}
	k.seen, k.verified = k.passed, k.passed
	// A server that does not say who it is may be one without an order of channels and globs, such as miniredis.
	if now.Identity.Run != "" && d.highest.Less(k.passed.Pos) {
		d.highest = k.passed.Pos
	}
	d.frontier.identify(now.Epoch)
	d.frontier.advance(endPosition(now))
}

// expired is called when the journal is empty, since it expired, or was deleted after everything in it had passed. The next
// event may have a lower time, if the clock is set back; its offset goes on.
func (d *dispatcher) expired(offset uint64) {
	at := journal.Position{Offset: offset}
	d.known.restart(at)
	d.highest = at
	for _, t := range d.topics.all() {
		t.mu.Lock()
		t.passed.Ms, t.last = 0, copied{}
		t.recent.restart(t.passed)
		for _, s := range t.subs {
			s.expired(offset)
		}
		t.mu.Unlock()
	}
	here, _ := d.frontier.at()
	here.limit = at
	d.frontier.renew(journal.Position{})
	d.frontier.reset(here)
}

// hold stops delivery while the server is a replica that has lost its master: what comes first, once it has the data of its
// master, does not follow what came before.
func (d *dispatcher) hold() {
	if d.held {
		return
	}
	d.log.Warn("notification: connected to a replica without a link to its master, waiting")
	d.up, d.held = false, true
	d.frontier.pause()
	d.health.set(cut)
}

// recover finds out what became of the journal, and makes subscriptions read what they have missed: between two sessions,
// or on a running one on which the journal changed. It reports whether it could.
func (d *dispatcher) recover(s *feed.Session, running bool) bool {
	d.frontier.pause() // until every subscription has learned what has become of the journal
	for failures := 1; ; failures++ {
		now, err := d.look(s)
		switch {
		case err == nil && now.Identity.LinkDown:
			d.hold()
			return false
		case err == nil:
			d.recovering.Over(d.log, "notification: recovery succeeds again")
			d.accept(s, &now, running)
			d.opened(s)
			return true
		case isOver(s):
			return false // the next session tries again
		}
		d.recovering.Log(d.log, zap.WarnLevel, "notification: recovery failed", zap.Error(err))
		if permanent(err) {
			// Live delivery is worth more than none, and the subscribers know.
			d.goWithout(s)
			d.opened(s)
			return true
		}
		timer := time.NewTimer(redisx.Backoff(failures, minRecoveryPause, maxRecoveryPause))
		select {
		case <-timer.C:
		case <-s.Done():
			timer.Stop()
			return false
		}
	}
}

func isOver(s *feed.Session) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

// look asks what the journal is like now.
func (d *dispatcher) look(s *feed.Session) (journal.Now, error) {
	ctx, cancel := d.within()
	defer cancel()
	// Every connection of the client leads to the server of the session.
	on, k := journal.Server{Client: s.Client}, &d.known
	now, err := d.journal.Look(ctx, on, d.before())
	if err != nil || now.Epoch == k.epoch || !isThere(&now, &k.seen) || k.seen.Same(&k.verified) {
		return now, err
	}
	// What has passed since the last heartbeat may be of the new epoch already.
	seen := k.seen
	k.seen = k.verified
	sooner, err := d.journal.Look(ctx, on, d.before())
	if err != nil || isThere(&sooner, &k.verified) || beganBehind(&sooner, k.verified.Pos, d.ring.oldest()) {
		k.seen = seen
		return now, err
	}
	k.passed = k.verified
	return sooner, nil
}

// isThere reports whether the event that was looked for is in the journal.
func isThere(now *journal.Now, e *journal.Envelope) bool {
	return now.AtCursor != nil && now.AtCursor.Same(e)
}

// beganBehind reports whether a journal begins behind a position, so that it proves nothing that there is no event: the journal
// was empty there, or is trimmed by now. One that was wiped begins at the offset zero. Where that is also the position's offset,
// only an event that has passed tells whether it is the same journal: the oldest that is remembered.
func beganBehind(now *journal.Now, pos journal.Position, oldest journal.Envelope) bool {
	if now.First == nil {
		return false
	}
	if start := now.First.Start(); start != 0 {
		return start >= pos.Offset
	}
	return pos.Offset == 0 && now.AtOldest != nil && now.AtOldest.Same(&oldest)
}

// before returns what a comparison needs to know.
func (d *dispatcher) before() journal.Known {
	k := &d.known
	return journal.Known{Epoch: k.epoch, Cursor: k.seen, Identity: k.identity, Oldest: d.ring.oldest()}
}

// goWithout goes on though the journal cannot be read.
func (d *dispatcher) goWithout(s *feed.Session) {
	d.missed(GapUnreadable, spot{behind: d.known.passed.Pos})
	d.known, d.highest = knowledge{}, journal.Position{}
	d.health.recover(true)
	here, _ := d.frontier.at()
	d.frontier.renew(journal.Position{})
	d.frontier.reset(place{session: s, limit: here.limit, blind: true})
	d.forget()
	if d.returned != nil { // its state can
		d.known.identity = d.returned.Identity
		d.verified(d.returned)
	}
}

// forget is called when positions have lost their meaning for subscriptions that are live.
func (d *dispatcher) forget() {
	for _, t := range d.topics.all() {
		t.mu.Lock()
		t.passed, t.last = journal.Position{}, copied{}
		t.recent.restart(t.passed)
		for _, s := range t.subs {
			s.forget()
		}
		t.mu.Unlock()
	}
}

// accept takes the journal for what it is now: tells what may be lost, and makes subscriptions read what is not.
func (d *dispatcher) accept(s *feed.Session, now *journal.Now, running bool) {
	k := &d.known
	v := journal.Compare(d.before(), *now)
	end := endPosition(&now.Status)
	r := reading{from: k.passed.Pos, until: end}
	at, nothing := spot{behind: k.seen.Pos}, false
	switch {
	case k.epoch == "":
		d.missed(GapUnreadable, at) // those that were live while the journal could not be read
		r.from = end
	case v.Reason == journal.Wiped, v.Reason == journal.RolledBack:
		r.from, r.forked = v.From, true
		r.filter = d.ring.filter(k.seen)
		if v.Reason == journal.RolledBack {
			r.filter.common = k.verified.Pos
		}
		// A server that has sent everything before and after its data was wiped has left out nothing.
		r.sparesLive = v.Reason == journal.Wiped && running && now.Identity == k.identity && now.Identity.Role == "master"
	case !isThere(now, &k.seen):
		r.gone = true
		nothing = v.Reason == journal.None && now.Length == 0 && k.seen.Same(&k.passed)
	case v.Reason != journal.None || d.held:
		// What came last may have come too early: before what its server had from its master.
		r.from, r.filter = k.verified.Pos, d.ring.filter(k.seen)
		if r.filter.common = k.seen.Pos; running {
			r.filter.common = k.verified.Pos
		}
	default:
		nothing = running || end.Offset == k.passed.Pos.Offset // then it was the last one, with all its copies
	}
	at.filter = r.filter // the first event that is new shows where
	switch {
	case v.Reason != journal.Wiped && v.Reason != journal.RolledBack, now.Identity != k.identity:
		at.open = openAll // also what was lost with one server after that had begun again
	case v.Reason == journal.RolledBack:
		at.open = openBehind
	}
	d.tell(v.Reason, at, r.sparesLive)
	d.tell(v.Also, at, false)
	d.catchup.fresh.Store(0)
	d.health.recover(k.epoch == "")
	k.epoch, k.identity = now.Epoch, now.Identity
	switch {
	case nothing && r.gone:
		d.expired(now.Offset)
	case r.filter != nil, r.gone:
		var at, common journal.Position
		if r.gone {
			at.Offset = k.passed.Pos.Offset
		} else if !r.forked {
			common = r.from
		}
		d.frontier.renew(common)
		k.restart(at)
		d.highest = at
	}
	if !nothing {
		d.readOn(r)
	}
	d.frontier.reset(place{session: s, epoch: now.Epoch, limit: end})
	d.catchup.wake()
	d.catchUpWith(now, r.sparesLive)
	if now.Identity.Role == "slave" {
		d.log.Warn("notification: connected to a replica, which may skip events unnoticed")
	}
}

// restart forgets what has passed, but for its offset.
func (k *knowledge) restart(at journal.Position) {
	k.passed = journal.Envelope{Pos: at}
	k.seen, k.verified = k.passed, k.passed
}

// catchUpWith learns from the last heartbeat of the session, unless that is of another journal. sparesLive is that of reading: what
// subscriptions that are live do not read has yet to pass.
func (d *dispatcher) catchUpWith(now *journal.Now, sparesLive bool) {
	switch beat := d.returned; {
	case beat == nil && d.known.passed.Pos.IsZero() && !sparesLive:
		d.known.passed = now.Cursor()
		d.known.seen = d.known.passed
	case beat == nil, beat.Epoch != now.Epoch, beat.Offset < d.known.passed.Pos.Offset:
	case now.Offset < beat.Offset, now.Last.Pos.Less(beat.Last.Pos): // the heartbeat came before the journal was set back
	default:
		d.verified(beat)
	}
}

// tell tells what a comparison found. That the journal does not reach back far enough concerns those that are behind, and
// each finds out by itself.
func (d *dispatcher) tell(reason journal.Reason, at spot, sparesLive bool) {
	switch {
	case reason == journal.None, reason == journal.Trimmed:
		return
	case !sparesLive:
		d.missed(GapReason(reason), at)
		return
	}
	told := 0
	for _, s := range d.topics.subscriptions() {
		if s.isBehind() && s.missed(GapReason(reason), at) {
			told++
		}
	}
	d.logGaps(GapWiped, told)
}

// readOn makes all subscriptions that have begun read the journal.
func (d *dispatcher) readOn(r reading) {
	var subs []*Subscription
	for _, t := range d.topics.all() {
		t.mu.Lock()
		if r.filter != nil || r.gone {
			t.passed, t.last = journal.Position{}, copied{}
			t.recent.restart(t.passed)
		}
		for _, s := range t.subs {
			if s.readOn(r) {
				subs = append(subs, s)
			}
		}
		t.mu.Unlock()
	}
	d.catchup.add(true, subs...)
}

// refusedError is why Redis does not let us listen to a name.
type refusedError struct{ error }

func (e refusedError) Unwrap() error { return e.error }
