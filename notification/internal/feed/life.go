package feed

import (
	"sync/atomic"
	"time"
)

// missingBeats is how many heartbeat intervals may pass without one that comes back.
const missingBeats = 3

// life decides whether a connection is dead. All instants are those of Feed.now.
type life struct {
	now      func() int64
	deadline time.Duration
	interval time.Duration

	contact atomic.Int64  // when a heartbeat came back
	bytes   atomic.Int64  // when anything came
	sent    atomic.Uint64 // the last heartbeat that the server has accepted
	seen    atomic.Uint64 // the last one that came back
	busy    atomic.Bool   // the sink is at work, so nothing is read
	held    atomic.Bool   // it was still at work when somebody looked
}

// left returns for how long the connection may stay silent from now on.
func (l *life) left() time.Duration {
	if l.busy.Load() {
		// What has arrived since is not seen.
		l.held.Store(true)
		return l.deadline
	}
	since := l.contact.Load()
	if l.sent.Load() > l.seen.Load() {
		// The server has put a heartbeat behind all that it has for us. If that is much, or large, it takes its time.
		since = max(since, l.bytes.Load())
	}
	return l.deadline - time.Duration(l.now()-since)
}

// next returns when to look again: often enough that a sink at work for long is noticed.
func (l *life) next(left time.Duration) time.Duration { return min(left, l.interval) }

// enter and leave enclose a call of the sink.
func (l *life) enter() { l.busy.Store(true) }

func (l *life) leave() {
	l.busy.Store(false)
	if l.held.Load() {
		l.held.Store(false)
		l.contact.Store(l.now()) // the silence was ours
	}
}

// returned notes a heartbeat that came back.
func (l *life) returned(number uint64) {
	l.contact.Store(l.now())
	if number > l.seen.Load() {
		l.seen.Store(number)
	}
}

// arrived notes that the connection has brought something.
func (l *life) arrived() { l.bytes.Store(l.now()) }
