package notification

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// replayBatch is how many events a replay reads at once, unless they are large, and so how many can wait for room
	// in a buffer.
	replayBatch = 256
	// How often full buffers are looked at. Receiving from a Go channel wakes nobody.
	minReplayPause = 2 * time.Millisecond
	maxReplayPause = 100 * time.Millisecond
)

// replayer feeds the subscriptions that are behind from the journal, in turns and from one goroutine, until they
// have caught up with the dispatcher and can be live again.
type replayer struct {
	pump   *pump
	ctx    context.Context // ends when replaying is to stop
	cancel context.CancelFunc
	poke   chan struct{}

	// Only work touches these.
	portion portion
	failing bool // that was logged already

	mu   sync.Mutex
	subs map[*Subscription]struct{} // guarded by mu
}

func newReplayer(p *pump) *replayer {
	r := &replayer{
		pump: p, poke: make(chan struct{}, 1), portion: newPortion(replayBatch), subs: make(map[*Subscription]struct{}),
	}
	r.ctx, r.cancel = context.WithCancel(redisx.Background(context.Background()))
	return r
}

// add takes over a subscription that has just become replaying.
func (r *replayer) add(s *Subscription) {
	r.mu.Lock()
	r.subs[s] = struct{}{}
	r.mu.Unlock()
	r.wake()
}

func (r *replayer) wake() {
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

// work gives each subscription its turn, again and again, with pauses that grow while nobody gets further.
func (r *replayer) work() {
	pause := minReplayPause
	for {
		busy, progress := r.round()
		var again <-chan time.Time
		switch {
		case progress:
			pause = minReplayPause
			if r.ctx.Err() == nil {
				continue
			}
		case busy:
			again = time.After(pause)
			pause = min(2*pause, maxReplayPause)
		}
		select {
		case <-r.poke:
			pause = minReplayPause
		case <-again:
		case <-r.ctx.Done():
			return
		}
	}
}

// round gives every subscription one turn. It reports whether any is left, and whether any got further.
func (r *replayer) round() (busy, progress bool) {
	// Each is taken out before its turn and put back if it needs another one. The other way round, one that became
	// live and fell behind again just then would be removed when it had just been added.
	r.mu.Lock()
	subs := slices.Collect(maps.Keys(r.subs))
	clear(r.subs)
	r.mu.Unlock()
	for _, s := range subs {
		if r.ctx.Err() != nil {
			return true, false
		}
		moved, done := r.turn(s)
		progress = progress || moved
		if !done {
			busy = true
			r.mu.Lock()
			r.subs[s] = struct{}{}
			r.mu.Unlock()
		}
	}
	r.failing = r.failing && busy
	return busy, progress
}

// reading is where a subscription is when the journal is asked for what follows.
type reading struct {
	last, next position
	rewinds    int
	resumes    bool
	passed     position // the last event of its name that the dispatcher had passed: what it passes later will be read, too
}

func (s *Subscription) reading() reading {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return reading{last: s.last, next: s.next, rewinds: s.rewinds, resumes: s.resumes, passed: s.topic.passed}
}

// place is where what is read begins.
func (w reading) place() position {
	if w.next.isZero() {
		return w.last
	}
	return w.next
}

// section reads from there.
func (w reading) section(ctx context.Context, j *journal, count int) (section, error) {
	if w.next.isZero() {
		return j.after(ctx, envelope{pos: w.last}, count)
	}
	// Nothing in front of it is missing, so the journal need not reach back further.
	return j.from(ctx, envelope{pos: w.next}, count)
}

// turn moves what was read into the buffer, and reads more once there is nothing left to move. It reports whether
// the subscription got further and whether it needs no more turns.
func (r *replayer) turn(s *Subscription) (moved, done bool) {
	session, stopping := r.pump.served(), r.pump.system.closed()
	s.mu.Lock()
	before := len(s.backlog)
	empty := r.move(s)
	moved = len(s.backlog) < before
	full := len(s.messages) == cap(s.messages)
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return moved, true
	}
	// While the connection is cut the journal may be about to change under us. Shutdown cuts it too, but for good.
	// Without room there is no hurry: whoever never reads shall not have a piece of the journal in our memory.
	if !empty || full || session == nil && !stopping {
		return moved, false
	}
	was := s.reading()
	if !was.resumes && !was.last.less(was.passed) {
		// All there was for it has been read. It may have taken its time over that, so the journal need not know the last.
		return moved, r.caughtUp(s, stopping)
	}
	ctx := r.ctx
	if session != nil {
		ctx = session.ctx
	}
	s.patience.limit = r.pump.system.set.deadline()
	part, err := was.section(ctx, r.pump.beside(session).within(&s.patience), s.patience.size(was.place(), r.portion.size))
	if err != nil {
		if ctx.Err() != nil {
			s.patience = patience{} // it was the connection's fault
			return moved, false
		}
		r.failed(err)
		return moved, permanent(err) && r.goWithout(s, stopping)
	}
	r.arrived()
	if session != nil && !r.pump.dispatcher.knows(part.origin) {
		return moved, false // of a data set that the connection brings nothing of yet: the next heartbeat tells
	}
	progress, finished := r.take(s, part, was)
	return moved || progress, finished && r.caughtUp(s, stopping)
}

// take stores what was read and has passed, and puts as much of it into the buffer as there is room for. It reports whether
// the subscription got further, and whether it has all there was.
func (r *replayer) take(s *Subscription, part section, was reading) (progress, finished bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.rewinds != was.rewinds {
		return false, false
	}
	if !was.next.isZero() {
		s.next, s.brokenAt = position{}, lastPosition() // the journal was not asked for this place before
	}
	nothingLeft := len(part.entries) == 0
	switch {
	case !part.intact:
		if again := r.broken(s, nothingLeft, was.passed); again {
			return true, false
		}
	case was.last.isZero() && nothingLeft && !was.passed.isZero():
		s.tell(Gap{Reason: GapTrimmed}) // an empty journal has nothing of it any more
		s.log(GapTrimmed)
		s.advance(was.passed)
	}
	entries, all := r.pump.dispatcher.passed(part.entries)
	r.store(s, entries)
	r.move(s)
	return len(entries) > 0, (!all || !part.more) && len(s.backlog) == 0
}

// failed is called when the journal could not be read. The next attempt comes soon, and tells nothing new in the log.
func (r *replayer) failed(err error) {
	r.portion.failed(err)
	level := zap.WarnLevel
	if r.failing {
		level = zap.DebugLevel
	}
	r.failing = true
	r.pump.system.set.logger.Log(level, "notification: replay failed", zap.Error(err))
}

// goWithout makes a subscription live though the journal cannot be read, and tells it: live delivery is worth more than
// none.
func (r *replayer) goWithout(s *Subscription, stopping bool) bool {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return true
	}
	if !stopping && !s.topic.live {
		return false
	}
	s.releaseAll()
	s.tell(Gap{Reason: GapUnreadable})
	s.log(GapUnreadable)
	if s.last == s.from {
		s.last = position{} // where it wanted to begin; the journal may not have come so far
	}
	s.advance(s.topic.passed)
	s.next, s.from = position{}, position{}
	s.state, s.resumes = live, false
	return true
}

// arrived is called when the journal was read. While the portions are small, a failure belongs to those before it.
func (r *replayer) arrived() {
	r.portion.arrived()
	r.failing = r.failing && r.portion.size < r.portion.full
}

// broken handles a journal that does not reach back to where the subscription is. It reports whether the journal has
// to be read again from another place. The caller holds s.mu.
func (r *replayer) broken(s *Subscription, nothingLeft bool, passed position) (again bool) {
	if s.brokenAt != s.last {
		s.brokenAt = s.last
		s.tell(Gap{Reason: GapTrimmed})
		s.log(GapTrimmed)
	}
	switch {
	case !nothingLeft:
		return false
	case s.last == s.from:
		// Nothing of this journal was delivered yet. If it is not empty it is a younger one that has not come as far
		// as the one the subscriber knew, and all of it is new.
		s.last, s.from = position{}, position{}
		return true
	default:
		// The journal has expired or was wiped. All the dispatcher has passed until now is gone with it.
		s.advance(passed)
		s.brokenAt = s.last
		return false
	}
}

// store keeps the events that match until there is room for them. The caller holds s.mu.
func (r *replayer) store(s *Subscription, entries []entry) {
	before := r.pump.dispatcher.seen.before.Load()
	for i := range entries {
		e := &entries[i]
		s.last = e.pos
		if s.has(before.repeated(e.envelope, e.value)) {
			continue // it was delivered before a failover
		}
		if channel, ok := e.match(s.pattern, s.topic.glob); ok {
			m := e.message(channel)
			if s.topic.glob {
				m.Pattern = s.pattern
			}
			if !s.wants(m) {
				continue
			}
			s.release(m, e.pos)
			s.backlog = append(s.backlog, m)
		}
	}
}

// move puts what was read into the buffer as far as there is room, and reports whether nothing is left. The caller
// holds s.mu.
func (r *replayer) move(s *Subscription) bool {
	if s.closed {
		return false
	}
	for len(s.backlog) > 0 && s.send(s.backlog[0], position{}) {
		s.backlog = s.backlog[1:]
	}
	if len(s.backlog) == 0 {
		s.backlog = nil
	}
	return len(s.backlog) == 0
}

// caughtUp makes a subscription live again if the journal was read at least as far as the dispatcher has come. What
// the dispatcher has still in front of it and the journal gave already is recognised by its position.
func (r *replayer) caughtUp(s *Subscription, stopping bool) bool {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return true
	}
	if !stopping && (!s.topic.live || s.last.less(s.topic.passed)) {
		return false
	}
	if !stopping && s.resumes && !r.pump.dispatcher.heard(s.topic.complete) {
		return false // what was published before its name was live may not all have been read
	}
	s.state, s.resumes = live, false
	s.releaseAll()
	return true
}
