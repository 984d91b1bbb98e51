package load

import "context"

// Limit bounds how many loaders run at a time. It is safe for concurrent use; make one with NewLimit.
type Limit struct{ slots chan struct{} }

// NewLimit returns a Limit for n loaders.
func NewLimit(n int) *Limit { return &Limit{slots: make(chan struct{}, n)} }

// slotOf is the key of the context of a loader.
type slotOf struct{ limit *Limit }

// With returns the context of a loader, and of all that it calls. Loaders that do not count have it too: others that do may wait
// for them.
func (l *Limit) With(ctx context.Context) context.Context {
	return context.WithValue(ctx, slotOf{l}, true)
}

// Covers reports whether a loader has called whoever has this context. It must not wait for another one's end, which may wait for
// its own.
func (l *Limit) Covers(ctx context.Context) bool { return ctx.Value(slotOf{l}) != nil }

// Acquire waits until another loader may run, and reports false if ctx ends, or leave is closed, before. If hastened is closed it
// may run beyond the limit. After true, release must follow.
func (l *Limit) Acquire(ctx context.Context, leave, hastened <-chan struct{}) (release func(), ok bool) {
	select {
	case <-hastened:
		return func() {}, true
	default:
	}
	select {
	case l.slots <- struct{}{}:
		return l.release, true
	default:
	}
	select {
	case l.slots <- struct{}{}:
		return l.release, true
	case <-hastened:
		return func() {}, true
	case <-leave:
	case <-ctx.Done():
	}
	return nil, false
}

// release lets the next one run.
func (l *Limit) release() { <-l.slots }

// Running returns how many loaders run.
func (l *Limit) Running() int { return len(l.slots) }
