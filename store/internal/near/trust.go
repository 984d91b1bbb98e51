package near

import (
	"math"
	"sync/atomic"
	"time"
)

// never is an instant before all others, with room for a difference.
const never = math.MinInt64 / 2

// trust says what caches may serve. The tracker writes it, every Get reads it.
type trust struct {
	base time.Time // what instants are counted from

	// watermark is an instant up to which every change was heard; never while that is unknown.
	watermark atomic.Int64
	// epoch numbers the times that begin with empty caches. Values of another epoch are not served.
	epoch atomic.Uint64
	// open says that changes are heard, so that values may be put.
	open atomic.Bool
}

func newTrust() *trust {
	t := &trust{base: time.Now()}
	t.watermark.Store(never)
	t.epoch.Store(1) // 0 is that of values nothing vouches for
	return t
}

// now returns the present instant.
func (t *trust) now() int64 { return int64(time.Since(t.base)) }

// serves reports whether a value of an epoch may be served, not older than limit, and the present instant.
//
// The order matters. A watermark that is read before its epoch is one of this epoch or of an earlier one, and reading the
// clock last counts the time for which the caller was not scheduled.
func (t *trust) serves(epoch uint64, limit int64) (now int64, ok bool) {
	watermark := t.watermark.Load()
	if t.epoch.Load() != epoch {
		return 0, false
	}
	now = t.now()
	return now, now-watermark < limit
}

// begin starts an epoch in which nothing is trusted yet.
func (t *trust) begin() {
	t.watermark.Store(never)
	t.epoch.Add(1)
}

// end makes everything untrusted at once.
func (t *trust) end() {
	t.open.Store(false)
	t.watermark.Store(never)
}
