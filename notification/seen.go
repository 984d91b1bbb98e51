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
	seed maphash.Seed
	ring [seenSize]memory
	last int // index of the memory added last

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
	if e.pos.isZero() || m.place == s.ring[s.last].place {
		return
	}
	if value != "" {
		m.content = maphash.String(s.seed, value)
	}
	s.last = (s.last + 1) % seenSize
	s.ring[s.last] = m
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

// doubtful is how long a publisher may keep repeating an event whose reply it lost in a failover.
const doubtful = 2 * time.Minute

// formerly is what passed before the history of the journal changed. A publisher may have seen its event fail that the
// old server had delivered already and the new one does not know. It then publishes it again, and only the content, with
// the time the publisher gave it, tells that it is the same. It is never changed, so anybody may ask.
type formerly struct {
	seed   maphash.Seed
	places map[uint64]place // by content
	until  time.Time        // when it does not matter any more
}

// historyChanged is called when another history of the journal begins.
func (s *seen) historyChanged(now time.Time) {
	f := &formerly{seed: s.seed, places: make(map[uint64]place, seenSize), until: now.Add(doubtful)}
	for i := range s.ring {
		if m := &s.ring[(s.last+1+i)%seenSize]; m.content != 0 { // the last one counts, if any comes twice
			f.places[m.content] = m.place
		}
	}
	s.before.Store(f)
}

func (f *formerly) over() bool { return time.Now().After(f.until) }

// place returns where an event that is in the journal of now had its place before. It gives false if it had none.
func (f *formerly) place(e envelope, value string) (was place, repeated bool) {
	if f == nil || f.over() {
		return place{}, false
	}
	was, known := f.places[maphash.String(f.seed, value)]
	return was, known && was != place{e.pos, e.stamp}
}

// repeats returns the place that an event had in the history before this one if it passed there, and zero if it did not.
func (s *seen) repeats(e envelope, value string) position {
	before := s.before.Load()
	if before == nil {
		return position{}
	}
	if before.over() {
		s.before.Store(nil)
		return position{}
	}
	was, repeated := before.place(e, value)
	if !repeated || s.has(place{e.pos, e.stamp}) {
		return position{}
	}
	return was.pos
}
