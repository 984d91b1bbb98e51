package lock

import "sync/atomic"

// fate is decided once, by whoever comes first: work that is done in the background belongs to its caller until either
// the work is done or the caller has left.
type fate struct{ state atomic.Uint32 }

const (
	undecided uint32 = iota
	delivered
	abandoned
)

// decide reports whether the caller's decision is the one that counts.
func (f *fate) decide(state uint32) bool { return f.state.CompareAndSwap(undecided, state) }
