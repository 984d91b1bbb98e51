package notification

import (
	"sync"
	"time"

	"github.com/compozy/cache/notification/internal/journal"
)

// ringSize is how many events are remembered. It has to cover what a failover can lose.
const ringSize = 1024

// ring remembers the last events that were delivered, so that the events of a journal that lost its end, or began again, can
// be distinguished from those that passed before. Every event is added, and hardly any is ever looked for: adding has to be cheap.
// It is safe for concurrent use.
type ring struct {
	mu     sync.Mutex
	events [ringSize]remembered
	count  uint64     // events ever added
	floor  remembered // of those that were forgotten, the last in the journal
}

// remembered is an event: two lives of a journal may use the same position, but not with the same stamp.
type remembered struct {
	pos   journal.Position
	stamp string
}

func (r *ring) add(e *journal.Envelope) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slot := &r.events[r.count%ringSize]
	if r.floor.pos.Less(slot.pos) {
		r.floor = *slot
	}
	*slot = remembered{e.Pos, e.Stamp}
	r.count++
}

// oldest returns the event behind which everything that was delivered is remembered.
func (r *ring) oldest() journal.Envelope {
	r.mu.Lock()
	defer r.mu.Unlock()
	low := r.lowest()
	return journal.Envelope{ID: low.pos.String(), Pos: low.pos, Stamp: low.stamp}
}

// lowest is called with mu held.
func (r *ring) lowest() remembered {
	if r.count > ringSize || r.count == 0 {
		return r.floor
	}
	low := r.events[0]
	for _, e := range r.events[:r.count] {
		if e.pos.Less(low.pos) {
			low = e
		}
	}
	return low
}

// filter returns what tells which events were delivered by now, of which the last is given.
func (r *ring) filter(last journal.Envelope) *filter {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := &filter{events: make(map[remembered]struct{}, ringSize), oldest: r.lowest().pos}
	for _, e := range r.events[:min(r.count, ringSize)] {
		f.events[e] = struct{}{}
	}
	f.until = timeOf(&last)
	return f
}

// filter tells which events of a changed journal were delivered before. It is never changed, so anybody may ask.
type filter struct {
	events map[remembered]struct{}
	oldest journal.Position // everything that was delivered behind it is in events
	common journal.Position // what was delivered up to here is of both journals, before and after the change
	until  time.Time        // when the last one was published, by its publisher's clock
}

// known reports whether an event passed before the journal changed. Of those that are not remembered, the ones in front of
// all others have, unless they were published later: on a server whose clock is behind that of the one before.
func (f *filter) known(e *journal.Envelope) bool {
	_, known := f.events[remembered{e.Pos, e.Stamp}]
	return known || f.earlier(e) && !f.oldest.Less(e.Pos)
}

// isCommon reports whether an event is certainly of both journals, before and after the change.
func (f *filter) isCommon(e *journal.Envelope) bool { return !f.common.Less(e.Pos) && f.known(e) }

func (f *filter) earlier(e *journal.Envelope) bool { return !e.Time.After(f.until) }
