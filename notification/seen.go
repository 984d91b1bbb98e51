package notification

import (
	"hash/maphash"
	"sync/atomic"
	"time"
)

// seenSize is how many of the last events are remembered. It has to cover what a failover can lose.
const seenSize = 1024

// seen remembers the last events that passed, so that after a journal was rolled back or wiped it can be told
// which of its events are new. Every event is added, but hardly any is ever asked for: adding has to be cheap.
type seen struct {
	seed  maphash.Seed
	ring  [seenSize]memory
	count uint64 // number of the memory added last; it is at this index, modulo seenSize

	before atomic.Pointer[formerly] // nil before the first change of history
}

// place is an event as the journal knows it: two histories may use the same ID, but not with the same stamp.
type place struct {
	pos   position
	stamp string
}

type memory struct {
	place
	content uint64 // hash of the value, 0 if it is not known
}

func newSeen() *seen {
	return &seen{seed: maphash.MakeSeed()}
}

// add remembers an event. The value is what follows its ID, empty if it is not known. An event added several times
// in a row is remembered once, such as the last one of the journal that each heartbeat names.
func (s *seen) add(e envelope, value string) {
	m := memory{place: place{e.pos, e.stamp}}
	if e.pos.isZero() || m.place == s.ring[s.count%seenSize].place {
		return
	}
	if value != "" {
		m.content = maphash.String(s.seed, value)
	}
	s.count++
	s.ring[s.count%seenSize] = m
}

// has reports whether an event is remembered. It looks at all of them, so it is for rare occasions.
func (s *seen) has(p place) bool {
	for i := range s.ring {
		if s.ring[i].place == p {
			return true
		}
	}
	return false
}

// places returns what is remembered.
func (s *seen) places() map[place]bool {
	places := make(map[place]bool, seenSize)
	for i := range s.ring {
		if p := s.ring[i].place; !p.pos.isZero() {
			places[p] = true
		}
	}
	return places
}

// oldest returns the lowest position remembered, zero if there is none.
func (s *seen) oldest() position {
	var low position
	for p := range s.places() {
		if low.isZero() || p.pos.less(low) {
			low = p.pos
		}
	}
	return low
}

// oldestNumber returns the number of the oldest memory. Numbers begin with 1.
func (s *seen) oldestNumber() uint64 { return s.count - min(s.count, seenSize) + 1 }

// until returns the number of the last memory that is not behind a position, zero if there is none.
func (s *seen) until(p position) uint64 {
	for n := s.count; n >= s.oldestNumber(); n-- {
		if !p.less(s.ring[n%seenSize].pos) {
			return n
		}
	}
	return 0
}

// doubtful is how long a publisher may keep repeating an event whose reply it lost in a failover.
const doubtful = 2 * time.Minute

// formerly is what passed before the history of the journal changed. A publisher may have seen its event fail that the
// old server had delivered already and the new one does not know. It then publishes it again, and only the content, with
// the time the publisher gave it, tells that it is the same. It is never changed, so anybody may ask.
type formerly struct {
	seed   maphash.Seed
	events map[uint64]former // by content
	until  time.Time         // when it does not matter any more
}

type former struct {
	place
	number uint64 // of the memory: numbers go on when places begin anew
}

// historyChanged is called when another history of the journal begins.
func (s *seen) historyChanged(now time.Time) {
	f := &formerly{seed: s.seed, events: make(map[uint64]former, seenSize), until: now.Add(doubtful)}
	for n := s.oldestNumber(); n <= s.count; n++ { // the last one counts, if any comes twice
		if m := &s.ring[n%seenSize]; m.content != 0 {
			f.events[m.content] = former{m.place, n}
		}
	}
	s.before.Store(f)
}

func (f *formerly) over() bool { return time.Now().After(f.until) }

// repeated returns the number under which an event of the journal of now is remembered that had another place before, and
// zero if it had none.
func (f *formerly) repeated(e envelope, value string) uint64 {
	if f == nil || f.over() {
		return 0
	}
	was := f.events[maphash.String(f.seed, value)]
	if was.place == (place{e.pos, e.stamp}) {
		return 0
	}
	return was.number
}

// repeats returns the number under which an event is remembered if it passed in a history before this one, and zero if it
// did not.
func (s *seen) repeats(e envelope, value string) uint64 {
	before := s.before.Load()
	if before == nil {
		return 0
	}
	if before.over() {
		s.before.Store(nil)
		return 0
	}
	was := before.repeated(e, value)
	if was == 0 || s.has(place{e.pos, e.stamp}) {
		return 0
	}
	return was
}
