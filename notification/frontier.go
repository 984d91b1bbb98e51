package notification

import (
	"sync"
	"sync/atomic"

	"github.com/compozy/cache/notification/internal/feed"
	"github.com/compozy/cache/notification/internal/journal"
)

// frontier is how far the connection has come in the journal: what the dispatcher knows and the catch-up has to heed. Safe
// for concurrent use.
type frontier struct {
	// generation grows whenever positions of before lose their meaning, or reading has to begin again: before subscriptions
	// learn of it.
	generation atomic.Uint64

	mu     sync.Mutex
	place  place
	common journal.Position // what is behind it may be other events since somebody has asked last
}

// place is a state of the frontier.
type place struct {
	session *feed.Session // nil while nothing is to be read
	epoch   string        // of the journal that the connection brings events of; empty if it is not known
	// limit is the last event that has passed. What is behind it is left alone: should the server fail, it would be in nobody's
	// memory.
	limit journal.Position
	blind bool // heartbeats tell nothing, so only events move the limit
}

// upTo returns the last event to be read.
func (p *place) upTo() journal.Position {
	if p.blind {
		return journal.End()
	}
	return p.limit
}

func (f *frontier) at() (p place, generation uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.place, f.generation.Load()
}

// advance moves the limit to an event that has passed.
func (f *frontier) advance(to journal.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.place.limit.Less(to) {
		f.place.limit = to
	}
}

// reset begins another generation.
func (f *frontier) reset(p place) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.generation.Add(1)
	f.place = p
}

// renew notes that what is behind a position may be other events in the next generation.
func (f *frontier) renew(common journal.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if common.Less(f.common) {
		f.common = common
	}
}

// renewed returns up to where all events are the same as when it was called last.
func (f *frontier) renewed() (common journal.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	common, f.common = f.common, journal.End()
	return common
}

// pause ends reading until the next reset.
func (f *frontier) pause() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.generation.Add(1)
	f.place.session = nil
}

// identify sets whose events the connection brings, and that heartbeats tell so.
func (f *frontier) identify(epoch string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.place.epoch, f.place.blind = epoch, false
}

// becomeBlind notes that heartbeats tell nothing any more.
func (f *frontier) becomeBlind() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.place.epoch, f.place.blind = "", true
}

// later returns the later of two positions, with the larger offset of both.
func later(p, q journal.Position) journal.Position {
	if p.Less(q) {
		p, q = q, p
	}
	p.Offset = max(p.Offset, q.Offset)
	return p
}

// endPosition is where the next event of a journal begins.
func endPosition(s *journal.Status) journal.Position {
	return later(s.End(), journal.Position{Offset: s.Offset})
}
