package breaker

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"
)

// longest is how many timeouts a call may last although its server answers others.
const longest = 8

// patience ends calls that a server does not answer. A call may wait for its turn behind many others, or behind what takes the
// server long: as long as that answers anybody it works. So what counts is when it has last done so. A call whose own connection
// is half open is not told from that, and ends after a fixed time.
type patience struct {
	timeout time.Duration
	start   time.Time
	heard   atomic.Int64 // when the server has last answered, in nanoseconds after start
}

// hear takes note that the server has answered.
func (p *patience) hear() { p.heard.Store(int64(time.Since(p.start))) }

// silence returns for how long the server has answered nobody.
func (p *patience) silence() time.Duration {
	return time.Since(p.start) - time.Duration(p.heard.Load())
}

// answersOthers reports whether the server has answered somebody lately.
func (p *patience) answersOthers() bool { return p.heard.Load() > 0 && p.silence() < p.timeout }

// limit returns a context for a call that begins now, which the caller ends.
func (p *patience) limit(ctx context.Context) (limited context.Context, end func()) {
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	var check func()
	check = func() {
		if ctx.Err() != nil {
			return
		}
		took := time.Since(began)
		left := p.timeout - min(p.silence(), took)
		if left <= 0 && isBusy(p.timeout) {
			left = p.timeout
		}
		if left = min(left, longest*p.timeout-took); left > 0 {
			time.AfterFunc(left, check)
			return
		}
		cancel(ErrNoAnswer)
	}
	timer := time.AfterFunc(p.timeout, check)
	return ctx, func() {
		timer.Stop()
		cancel(nil)
	}
}

// isBusy reports whether this process has so much else to do that an answer may be there which nobody has read, as when
// thousands of calls begin at once: it takes long for a goroutine to have its turn.
func isBusy(timeout time.Duration) bool {
	before := time.Now()
	runtime.Gosched()
	return time.Since(before) > timeout/16
}
