package group

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/notification/internal/journal"
)

const (
	// leadFor is how long a leader leads without a sign of life.
	leadFor = 6 * time.Second
	// roundEvery is how often a leader gives one, and looks after the group and the journal.
	roundEvery = 2 * time.Second
	// idleTurn is how often a member looks for a leader that is gone, and one that has room for events that nobody woke it for.
	idleTurn = 3 * time.Second
	// stopFor is how long a member that stops tries to say what became of its events. Others get them later otherwise.
	stopFor = 3 * time.Second

	// takeBytes is how much a turn takes at most, unless one event has more.
	takeBytes = 1 << 20
	// maxHeld and maxHeldBytes are what a group holds before its leader waits: what is behind that stays in the journal.
	maxHeld, maxHeldBytes = 10_000, 16 << 20

	lowPause, highPause = 10 * time.Millisecond, time.Second // after a failure
)

// Event is one event as a member gets it.
type Event struct {
	ID        string // the event ID
	Attempt   int    // how often it was handed out by now
	Abandoned bool   // the member that had it before gave no sign of life
	Returned  bool   // a member that stopped in the middle has given it back
	Body      string // what Settings.Body made

	key string // its ID in the group
}

// Result says what is to become of an event.
type Result struct {
	Err  error // nil: it was handled
	Dead bool  // another attempt would change nothing
}

// Outcome is what became of an event.
type Outcome string

// The outcomes.
const (
	Done  Outcome = "done"  // it was handled
	Again Outcome = "again" // it failed, and comes again
	Back  Outcome = "back"  // the member stopped, and others get it
	Dead  Outcome = "dead"  // it failed, and is given up
)

// Settings are those of a member.
type Settings struct {
	Client  redis.UniversalClient
	Journal journal.Keys
	Group   string
	Pattern string
	// From is where a new group begins; nil is at the end of the journal.
	From *journal.Position

	Concurrency  int           // events that it works on at the same time
	MaxAttempts  int           // then an event is given up
	FirstPause   time.Duration // after the first failure, doubled for each further one
	LongestPause time.Duration
	Claim        time.Duration // without a sign of life from a member, after which others get its events
	DeadCap      int           // how many of the events that were given up are kept, about

	// Body returns what the group keeps of an event, and false if it wants none of it.
	Body func(e *journal.Entry) (body string, ok bool)
	// Handle works on an event. It is called from several goroutines if Concurrency is more than 1.
	Handle func(ctx context.Context, e Event) Result
	// Settled is called when the group knows what becomes of an event.
	Settled func(e Event, o Outcome, err error)
	// Ready is called once, as soon as what is published from then on is the group's.
	Ready func()
	// Gap is called, in one member of the group, when events may be missing: after an event of the journal, or empty if not
	// from there; missed is 0 if their number is unknown.
	Gap func(reason journal.Reason, after string, missed uint64)

	Stop <-chan struct{} // once it is closed, no further events are taken
	Log  *zap.Logger
}

// pause returns how long to wait before an event is tried again that has failed so often.
func (s *Settings) pause(attempt int) time.Duration {
	d := s.FirstPause
	for ; attempt > 1 && d < s.LongestPause; attempt-- {
		d *= 2
	}
	return min(d, s.LongestPause)
}
