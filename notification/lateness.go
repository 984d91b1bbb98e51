package notification

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// maxLateness is how long after it was sent a first attempt may be executed at most.
	maxLateness = 2 * time.Second
	// limitStep is what limits are rounded up to at most, in milliseconds, so that many events have the same.
	limitStep = 256
	// scriptTime is for how long a script appends events at most, in milliseconds.
	scriptTime = 20
	// noLimit is a limit behind every time.
	noLimit = "z"
	// lateError begins the error of a script that was executed too late.
	lateError = "LATE "
)

// lateness keeps first attempts from being executed after their repetitions: each carries the time on the server's clock
// after which it does nothing. An attempt that was given up may still be under way, as the kernel goes on sending what a
// closed connection has not delivered. The server's clock is known from the replies to earlier events, or asked for.
//
// An event that goes alone is late by its place in the journal, which costs nothing, and its place tells the time. After
// the server's clock was set back, or another server has taken over whose clock is behind, places stand still until the
// clock has caught up. That is noticed by the next events, which go by the clock itself then.
type lateness struct {
	allowed  int64        // milliseconds, and
	step     int64        // what limits are rounded up to: together never more than the client waits
	ahead    atomic.Int64 // by how many the server's clock is ahead of ours, at most, or unknown
	base     atomic.Int64 // what ahead was when the clock itself told
	standing atomic.Bool  // places are ahead of the server's clock, or may be
	last     atomic.Pointer[limit]
	anew     atomic.Pointer[time.Time] // when the clock was forgotten last: what was sent before that tells nothing
}

// unknown is more than any clock is ahead of another.
const unknown = math.MaxInt64

// limit is a time on the server's clock, in milliseconds, and the argument that says so.
type limit struct {
	end  int64
	text any
}

// allow sets how late an attempt may be: as long as the client waits for a reply, if that is known and less than
// maxLateness.
func (l *lateness) allow(client redis.UniversalClient) {
	allowed := maxLateness
	if c, ok := redisx.Unwrap[*redis.Client](client); ok && c.Options().ReadTimeout > 0 {
		allowed = min(allowed, c.Options().ReadTimeout)
	}
	if c, ok := redisx.Unwrap[*redis.ClusterClient](client); ok && c.Options().ReadTimeout > 0 {
		allowed = min(allowed, c.Options().ReadTimeout)
	}
	total := max(allowed.Milliseconds(), 2)
	l.step = min(limitStep, total/2)
	l.allowed = total - l.step
	l.ahead.Store(unknown)
}

// learn takes note of the server's clock, a number of milliseconds, from the reply to what was sent at the time given. The
// time that it was under way makes the server's clock look further ahead than it is, so the fastest one counts: by
// a slow one, limits would allow as much more to all that follow.
func (l *lateness) learn(clock any, sent time.Time) error {
	text, _ := clock.(string)
	server, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: time %q", errProtocol, text)
	}
	if anew := l.anew.Load(); anew != nil && sent.Before(*anew) {
		return nil
	}
	ahead := server - sent.UnixMilli()
	for known := l.ahead.Load(); ahead < known; known = l.ahead.Load() {
		if l.ahead.CompareAndSwap(known, ahead) {
			if known == unknown {
				l.base.Store(ahead)
			}
			break
		}
	}
	return nil
}

// placed takes note of the place that the server gave to an event which was sent at the time given. It begins with the
// server's time, unless places stand still: then the server's clock seems to fall behind.
func (l *lateness) placed(id any, sent time.Time) {
	place, _ := id.(string)
	clock, _, _ := strings.Cut(place, "-")
	if l.learn(clock, sent) == nil && l.base.Load()-l.ahead.Load() > limitStep {
		l.doubt()
	}
}

// compare takes note of the server's clock and, if there is one, of a place that it has given to an event at that time.
func (l *lateness) compare(clock, id any, sent time.Time) {
	if l.learn(clock, sent) != nil {
		return
	}
	place, _ := id.(string)
	if pos, ok := parsePosition(place); ok {
		now, _ := parsePosition(clock.(string) + "-0")
		l.standing.Store(pos.ms > now.ms+scriptTime)
		l.base.Store(l.ahead.Load())
	}
}

// doubt is for when a call was refused as late though its sender was still there, or places seem to stand still: the
// server's clock was set, or another server has taken over. The next event asks for the clock, and compares it with its
// place.
func (l *lateness) doubt() {
	l.standing.Store(true)
	l.forget()
}

// forget makes the next event ask for the server's clock.
func (l *lateness) forget() {
	now := time.Now()
	l.anew.Store(&now)
	l.ahead.Store(unknown)
}

// limit returns the limit of what is sent now, as the scripts get it. It gives false if the server's clock is not known.
func (l *lateness) limit(now time.Time) (text any, ok bool) {
	ahead := l.ahead.Load()
	if ahead == unknown {
		return nil, false
	}
	end := now.UnixMilli() + ahead + l.allowed
	end += l.step - end%l.step
	if last := l.last.Load(); last != nil && last.end == end {
		return last.text, true
	}
	next := &limit{end: end, text: strconv.FormatInt(end, 10)}
	l.last.Store(next)
	return next.text, true
}
