package quorum

import (
	"sync"
	"time"
)

// debt is the answers that a server owes to callers who have gone on without them. Its zero value is none.
type debt struct {
	mu    sync.Mutex // guards what follows
	count int
	since time.Time // the server has not answered anything since then, though it owes answers
}

// add notes that the server owes one more.
func (d *debt) add() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.count == 0 {
		d.since = time.Now()
	}
	d.count++
}

// settle notes that a call has ended which the server owed, or not, and whether it has answered: then it is not down.
func (d *debt) settle(owed, answered bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if owed {
		d.count--
	}
	if answered {
		d.since = time.Now()
	}
}

// isFull reports whether the server owes so much that it is not to be asked.
func (d *debt) isFull() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count >= maxLate
}

// silence returns for how long the server has not answered anything, though it owes answers: 0 if it owes none.
func (d *debt) silence() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.count == 0 {
		return 0
	}
	return time.Since(d.since)
}
