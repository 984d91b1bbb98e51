package faultproxy

import (
	"sync"
	"time"
)

// queueLimit is how many bytes may be under way in one direction of one
// connection. Beyond it reading waits, so that a stuck receiver does not cost
// memory without end.
const queueLimit = 8 << 20

// chunk is a piece of the stream and when it arrives at the other side. A chunk without data is the stream's end.
type chunk struct {
	data []byte
	due  time.Time
	held <-chan struct{} // closed when it may leave; nil if it was not held back
}

// queue holds what is under way, for one goroutine that puts and one that
// takes.
type queue struct {
	mu     sync.Mutex // protects what follows
	chunks []chunk
	bytes  int

	// Each of these holds at most one token: "look again".
	filled, drained chan struct{}
}

func newQueue() *queue {
	return &queue{filled: make(chan struct{}, 1), drained: make(chan struct{}, 1)}
}

// put appends a chunk, waiting for room if necessary. It returns false if done
// was closed first.
func (q *queue) put(c chunk, done <-chan struct{}) bool {
	for {
		q.mu.Lock()
		if q.bytes < queueLimit {
			q.chunks = append(q.chunks, c)
			q.bytes += len(c.data)
			q.mu.Unlock()
			wake(q.filled)
			return true
		}
		q.mu.Unlock()
		select {
		case <-q.drained:
		case <-done:
			return false
		}
	}
}

// take removes the first chunk, waiting for one if necessary. It returns false
// if done was closed first.
func (q *queue) take(done <-chan struct{}) (chunk, bool) {
	for {
		q.mu.Lock()
		if len(q.chunks) > 0 {
			c := q.chunks[0]
			q.chunks[0] = chunk{} // its data must not live as long as the slice
			q.chunks = q.chunks[1:]
			q.bytes -= len(c.data)
			q.mu.Unlock()
			wake(q.drained)
			return c, true
		}
		q.mu.Unlock()
		select {
		case <-q.filled:
		case <-done:
			return chunk{}, false
		}
	}
}

// wake leaves a token for a goroutine that waits now or later.
func wake(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}
