package publisher

import (
	"strconv"
	"sync"
)

// lanes are those of a publisher that no request uses just now. There are as many as there were ever requests under way at
// the same time. The server forgets one that was not used for ten minutes, which is longer than an attempt can be held up.
type lanes struct {
	prefix string // of their keys

	mu   sync.Mutex // guards what follows
	free []*lane
	made int
}

// lane carries one request at a time, with all its attempts.
type lane struct {
	key    string
	number int64 // of its last request
}

// take returns a lane with the number of a new request. It is given back when the request has ended, even if nobody knows
// how: an attempt that is still under way does nothing once the next request was executed.
func (l *lanes) take() *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	var next *lane
	if last := len(l.free) - 1; last >= 0 {
		// The one used last, so that the others are forgotten after a burst.
		next, l.free = l.free[last], l.free[:last]
	} else {
		next = &lane{key: l.prefix + strconv.Itoa(l.made)}
		l.made++
	}
	next.number++
	return next
}

func (l *lanes) give(back *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = append(l.free, back)
}
