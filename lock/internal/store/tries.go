package store

import (
	"strconv"
	"sync"
	"time"
)

// Tries is the tries to set a claim's lock on one server: what the lock's value there may be, and whether it is known.
//
// Each try has a number, and the value that it sets is that of the claim, "#" and the number. A number is sent once, so
// a value whose setting the server has confirmed cannot be set again by a command that is late. Only such a value is
// ever extended. What nobody has confirmed ends with its first grant, whenever it arrives. It is safe for concurrent use.
//
// What is known of the lock on the server, and what that becomes:
//
//	            begin      end, confirmed   end, not confirmed   extended, and gone
//	unknown     under way  -                -                    -
//	under way   -          known            unknown              -
//	missing     under way  -                -                    -
//	known       -          -                -                    missing
//
// A try that fails leaves the lock unknown there, until somebody tries again; and if it ended without a reply it is stray
// for good: it may be executed still. After over there are no more tries.
type Tries struct {
	mu    sync.Mutex // guards what follows
	last  int        // the number of the last try
	state tryState
	until time.Time // while the lock is known: when it ends at the earliest
	stray bool      // a try has ended without a reply
	over  bool      // nobody wants the lock any more
}

// tryState is what is known of a lock on a server.
type tryState uint8

const (
	unknown  tryState = iota // whether it is there
	underWay                 // a try to set it
	known                    // the server has confirmed the last try
	missing                  // it has, and later said that the value was gone
)

// Stray reports whether a try has ended without a reply, and may be executed still.
func (t *Tries) Stray() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stray
}

// begin reports whether to set the lock, as it is not known to be there, nobody tries to, and somebody wants it. Then end
// has to follow.
func (t *Tries) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over || t.state == underWay || t.state == known {
		return false
	}
	t.state = underWay
	return true
}

// next returns the number of what is about to be sent.
func (t *Tries) next() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	return t.last
}

// end notes what has become of a try: whether the server has confirmed the last number, and whether a command was lost; and
// when a lock that was confirmed ends at the earliest. It reports whether somebody still wants the lock.
func (t *Tries) end(confirmed, lost bool, until time.Time) (wanted bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state, t.until, t.stray = unknown, until, t.stray || lost
	if confirmed {
		t.state = known
	}
	return !t.over
}

// confirmed returns the number that the server has confirmed last, false if it is not known to have the lock.
func (t *Tries) confirmed() (number int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last, t.state == known || t.state == missing
}

// wanted returns the number of a lock that is known to be there, and that somebody wants.
func (t *Tries) wanted() (number int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last, t.state == known && !t.over
}

// extended notes what the server has replied to an extension, until then at least, of the value with a number. A value that
// is gone is asked for all the same, so that the loss is seen each time, until there is another try.
func (t *Tries) extended(number int, r Reply, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.state != known || t.last != number:
	case r.Outcome == Absent:
		t.state = missing
	case r.Outcome == Refused: // somebody else has it there
		t.until = time.Time{}
	case r.Outcome == Granted && until.After(t.until): // replies may overtake one another
		t.until = until
	}
}

// lasts reports whether the server is known to have the lock until then.
func (t *Tries) lasts(until time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state == known && !t.until.Before(until)
}

// value is what a try with a number makes of a lock.
func (c Claim) value(number int) string { return c.Value + "#" + strconv.Itoa(number) }

// Lasts reports whether all servers are known to have the lock until then.
func (c Claim) Lasts(until time.Time) bool {
	for i := range c.Tries {
		if !c.Tries[i].lasts(until) {
			return false
		}
	}
	return true
}

// End says that nobody wants the lock any more, before it is released or removed: from here on Mend does nothing, and
// what it has under way cleans up after itself.
func (c Claim) End() {
	for i := range c.Tries {
		t := &c.Tries[i]
		t.mu.Lock()
		t.over = true
		t.mu.Unlock()
	}
}
