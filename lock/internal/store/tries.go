package store

import (
	"strconv"
	"sync"
)

// Tries is the tries to set a claim's lock on one server: what the lock's value there may be, and whether it is known.
//
// Each try has a number, and the value that it sets is that of the claim, "#" and the number. A number is sent once, so
// a value whose setting the server has confirmed cannot be set again by a command that is late. Only such a value is
// ever extended. What nobody has confirmed ends with its first grant, whenever it arrives. It is safe for concurrent use.
type Tries struct {
	mu    sync.Mutex // guards what follows
	last  int        // the number of the last try
	state tryState
	stray bool   // a try has ended without a reply, and may be executed still
	then  func() // called when the server confirms the try that is under way; may be nil
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

// begin reports whether to try. If so, end has to follow; if a try is under way, its end counts for this caller as well;
// and if the lock is known to be there, nothing needs to be done. then is called when the lock is known to be there.
func (t *Tries) begin(then func()) bool {
	t.mu.Lock()
	state := t.state
	if state != known {
		t.state, t.then = underWay, then
	}
	t.mu.Unlock()
	if state == known {
		then()
	}
	return state == unknown || state == missing
}

// next returns the number of what is about to be sent.
func (t *Tries) next() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	return t.last
}

// end notes what has become of a try: whether the server has confirmed the last number, and whether a command was lost.
func (t *Tries) end(confirmed, stray bool) {
	t.mu.Lock()
	then := t.then
	t.state, t.stray, t.then = unknown, t.stray || stray, nil
	if confirmed {
		t.state = known
	}
	t.mu.Unlock()
	if confirmed && then != nil {
		then()
	}
}

// confirmed returns the number that the server has confirmed last, false if it is not known to have the lock.
func (t *Tries) confirmed() (number int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last, t.state == known || t.state == missing
}

// extended notes what the server has replied to an extension of the value with a number. A value that is gone is asked
// for all the same, so that the loss is seen each time, until there is another try.
func (t *Tries) extended(number int, r Reply) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.Outcome == Absent && t.state == known && t.last == number {
		t.state = missing
	}
}

// value is what a try with a number makes of a lock.
func (c Claim) value(number int) string { return c.Value + "#" + strconv.Itoa(number) }
