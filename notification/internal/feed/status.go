package feed

import (
	"errors"
	"time"
)

// Status is what a Feed is like at one moment.
type Status struct {
	// Up says that there is a session, and that it is up.
	Up bool
	// Changed is closed when Up changes.
	Changed <-chan struct{}
	// Cause is why the last session ended or could not begin; nil if none ever has.
	Cause error
	// Unguarded is why the node of a Cluster will not say when it loses the journal; nil if it will.
	Unguarded error
	// Silence is how long ago a heartbeat came back, or Start was called. It is 0 before Start and after Close.
	Silence time.Duration
}

// Status returns what the connection is like. It sends nothing.
func (f *Feed) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Status{Up: f.up, Changed: f.changed, Cause: f.cause, Unguarded: f.unguarded}
	if f.started && !f.closed {
		s.Silence = time.Duration(max(0, f.now()-f.lastBeat.Load()))
	}
	return s
}

// Alive returns an error if a goroutine has ended that should not have, whatever the state of Redis. It is nil before
// Start and after Close.
func (f *Feed) Alive() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.started && !f.closed && f.running < goroutines {
		return errors.New("notification: a goroutine of the connection has ended")
	}
	return nil
}

// current returns the session that heartbeats are to be sent for, or nil.
func (f *Feed) current() *Session {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.session
}

// setSession says which session there is; nil: none.
func (f *Feed) setSession(s *Session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.session = s
	f.setUp(false)
}

// isUp notes that the session is up.
func (f *Feed) isUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setUp(true)
}

// setUp is called with mu held.
func (f *Feed) setUp(up bool) {
	if f.up == up {
		return
	}
	f.up = up
	close(f.changed)
	f.changed = make(chan struct{})
}

// note remembers why there is no session.
func (f *Feed) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cause = err
}

// setUnguarded remembers why the node will not say when it loses the journal; nil if it will.
func (f *Feed) setUnguarded(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unguarded = err
}
