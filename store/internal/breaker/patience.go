package breaker

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// longest is how many timeouts a call may last although its server answers others.
const longest = 8

// patience ends calls that a server does not answer. A call may wait for its turn behind many others, or behind what takes the
// server long: as long as that answers anybody it works. So what counts is for how long it has answered nobody while it was asked.
// A call whose own connection is half open is not told from one that waits, and ends after a fixed time.
type patience struct {
	timeout time.Duration

	mu     sync.Mutex
	asking int           // how many calls are under way
	since  time.Time     // when the first of these began, or when one was last answered
	waited time.Duration // what calls had waited before since, after the last answer
}

// begin takes note that a call begins, and end that it has ended.
func (p *patience) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asking++; p.asking == 1 {
		p.since = time.Now()
	}
}

func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asking--; p.asking == 0 {
		p.waited += time.Since(p.since)
	}
}

// hear takes note that the server has answered, or that its silence until now does not count.
func (p *patience) hear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since, p.waited = time.Now(), 0
}

// silence returns for how long the server was asked and has answered nobody, without the time in which nobody asked it.
func (p *patience) silence() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asking == 0 {
		return p.waited
	}
	return p.waited + time.Since(p.since)
}

// isSilent reports whether that is so long that the server does not work.
func (p *patience) isSilent() bool { return p.silence() >= p.timeout }

// limit returns a context for a call that begins now, which the caller ends.
func (p *patience) limit(ctx context.Context) (limited context.Context, end func()) {
	began := time.Now()
	p.begin()
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
		p.end()
	}
}

// isBusy reports whether this process has so much else to do that an answer may be there which nobody has read, as when
// thousands of calls begin at once: it takes long for a goroutine to have its turn.
func isBusy(timeout time.Duration) bool {
	before := time.Now()
	runtime.Gosched()
	return time.Since(before) > timeout/16
}
