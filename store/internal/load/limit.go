package load

import "context"

// Limit bounds how many loaders run at a time. It is safe for concurrent use; make one with NewLimit.
type Limit struct{ slots chan struct{} }

// NewLimit returns a Limit for n loaders.
func NewLimit(n int) *Limit { return &Limit{slots: make(chan struct{}, n)} }

// Acquire waits until another loader may run, and reports false if ctx ends, or leave is closed, before. After true, Release
// must follow.
func (l *Limit) Acquire(ctx context.Context, leave <-chan struct{}) bool {
	select {
	case l.slots <- struct{}{}:
		return true
	default:
	}
	select {
	case l.slots <- struct{}{}:
		return true
	case <-leave:
	case <-ctx.Done():
	}
	return false
}

// Release lets the next one run.
func (l *Limit) Release() { <-l.slots }

// Running returns how many loaders run.
func (l *Limit) Running() int { return len(l.slots) }
