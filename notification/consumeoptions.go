package notification

import (
	"fmt"
	"time"

	"github.com/compozy/cache/notification/internal/journal"
)

// ConsumeOption changes a setting of Consume.
type ConsumeOption interface{ consume(s *ConsumeSettings) }

// HandleOption changes a setting of Handle, and of Consume as well.
type HandleOption interface {
	ConsumeOption
	handle(s *handleSettings)
}

// Defaults of Consume.
const (
	defaultMaxAttempts  = 5
	defaultFirstPause   = time.Second
	defaultLongestPause = time.Minute
	defaultClaimAfter   = 30 * time.Second
	defaultDeadLetters  = 1000

	longestWait    = 30 * 24 * time.Hour // of WithBackoff and WithClaimAfter
	minClaimAfter  = 100 * time.Millisecond
	maxConcurrency = 1024
)

type handleSettings struct {
	ready func() // never nil
}

// ConsumeSettings are what the options of Consume set.
type ConsumeSettings struct {
	MaxAttempts  int           // WithMaxAttempts
	FirstPause   time.Duration // WithBackoff
	LongestPause time.Duration // WithBackoff
	ClaimAfter   time.Duration // WithClaimAfter
	Concurrency  int           // WithConcurrency
	DeadLetters  int           // WithDeadLetters
	From         *string       // WithFrom; nil without it
	OnGap        func(Gap)     // WithOnGap; nil without it
	Ready        func()        // WithReady; never nil
}

// position returns where a new group begins, nil for now.
func (s *ConsumeSettings) position() *journal.Position {
	if s.From == nil {
		return nil
	}
	at, _ := journal.ParsePosition(*s.From) // none is the beginning
	return &at
}

type consumeOption func(s *ConsumeSettings)

func (o consumeOption) consume(s *ConsumeSettings) { o(s) }

type readyOption func()

func (o readyOption) consume(s *ConsumeSettings) { s.Ready = o.orNothing() }
func (o readyOption) handle(s *handleSettings)   { s.ready = o.orNothing() }

func (o readyOption) orNothing() func() {
	if o == nil {
		return func() {}
	}
	return o
}

// WithReady has a function called once, as soon as every event that is published from then on is handled: after Redis has
// confirmed the subscription of Handle, or the membership of Consume. It is called by the goroutine that called Handle or
// Consume if Redis confirms in time, and has to return before the first event is handled.
func WithReady(ready func()) HandleOption {
	return readyOption(ready)
}

// WithMaxAttempts sets how often an event is handed to a function of the group before it goes to the dead letters, overriding
// the default of 5. At least 1; 0 means the default. An attempt whose process died counts, one that was cut short by the end
// of Consume does not. All members of a group should have the same: one that gets an event which another with a higher number
// has failed on often enough tries it once more.
func WithMaxAttempts(n int) ConsumeOption {
	return consumeOption(func(s *ConsumeSettings) { s.MaxAttempts = n })
}

// WithBackoff sets after which time an event comes again whose function failed, overriding the default of 1s: doubled for each
// further failure, up to the longest, by default 1m. 0 means the default; at least 1ms, and at most 30 days.
func WithBackoff(first, longest time.Duration) ConsumeOption {
	return consumeOption(func(s *ConsumeSettings) { s.FirstPause, s.LongestPause = first, longest })
}

// WithClaimAfter sets after which time without a sign of life from a process the others of its group take over its events,
// overriding the default of 30s. Each event that is being handled is a sign of life every third of that, however long it
// takes. 0 means the default; at least 100ms, and at most 30 days. All members of a group should have the same.
func WithClaimAfter(d time.Duration) ConsumeOption {
	return consumeOption(func(s *ConsumeSettings) { s.ClaimAfter = d })
}

// WithConcurrency sets how many events one call of Consume handles at the same time, overriding the default of 1. 0 means the
// default; at most 1024.
func WithConcurrency(n int) ConsumeOption {
	return consumeOption(func(s *ConsumeSettings) { s.Concurrency = n })
}

// WithDeadLetters sets how many dead letters the group keeps, about, overriding the default of 1000. The oldest go first. 0
// means the default. Each has its event, and nothing but their number bounds them: 1000 of 1 MiB (see WithMaxEventSize) take 1 GiB
// of Redis' memory.
func WithDeadLetters(n int) ConsumeOption {
	return consumeOption(func(s *ConsumeSettings) { s.DeadLetters = n })
}

// WithFrom sets where a group begins that is new: behind the event with this ID, instead of with what is published from now
// on. An empty ID means the beginning of the journal. A group that exists goes on where it is, whatever the ID.
func WithFrom(eventID string) ConsumeOption {
	return consumeOption(func(s *ConsumeSettings) { s.From = &eventID })
}

// WithOnGap has a function called when events may be missing: the journal lost some before the group had read them, or Redis
// lost some that the group held. It is called in one process of the group, by a goroutine of its own; the group reads no further
// until it returns. Should that process end before, another one's is called. Without it, gaps are logged and counted. A panic of
// it is logged.
func WithOnGap(onGap func(Gap)) ConsumeOption {
	return consumeOption(func(s *ConsumeSettings) { s.OnGap = onGap })
}

// newConsumeSettings applies the options, then the defaults, and refuses what makes no sense.
func newConsumeSettings(opts []ConsumeOption) (ConsumeSettings, error) {
	s := ConsumeSettings{Ready: func() {}}
	for _, opt := range opts {
		if opt == nil {
			return s, &ArgumentError{Argument: "opts", Reason: "contains nil"}
		}
		opt.consume(&s)
	}
	fill(&s.MaxAttempts, defaultMaxAttempts)
	fill(&s.FirstPause, defaultFirstPause)
	fill(&s.LongestPause, max(defaultLongestPause, s.FirstPause))
	fill(&s.ClaimAfter, defaultClaimAfter)
	fill(&s.Concurrency, 1)
	fill(&s.DeadLetters, defaultDeadLetters)
	return s, s.validate()
}

func (s *ConsumeSettings) validate() error {
	refuse := func(argument, format string, args ...any) error {
		return &ArgumentError{Argument: argument, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case s.MaxAttempts < 1:
		return refuse("WithMaxAttempts", "%d is below 1", s.MaxAttempts)
	case s.FirstPause < time.Millisecond:
		return refuse("WithBackoff", "%v is below 1ms", s.FirstPause)
	case s.LongestPause < s.FirstPause:
		return refuse("WithBackoff", "the longest, %v, is below the first, %v", s.LongestPause, s.FirstPause)
	case s.LongestPause > longestWait:
		return refuse("WithBackoff", "%v is above %v, which is 30 days", s.LongestPause, longestWait)
	case s.ClaimAfter > longestWait:
		return refuse("WithClaimAfter", "%v is above %v, which is 30 days", s.ClaimAfter, longestWait)
	case s.ClaimAfter < minClaimAfter:
		return refuse("WithClaimAfter", "%v is below %v", s.ClaimAfter, minClaimAfter)
	case s.Concurrency < 1 || s.Concurrency > maxConcurrency:
		return refuse("WithConcurrency", "%d is not between 1 and %d", s.Concurrency, maxConcurrency)
	case s.DeadLetters < 1:
		return refuse("WithDeadLetters", "%d is below 1", s.DeadLetters)
	}
	if s.From != nil && *s.From != "" {
		if _, ok := journal.ParsePosition(*s.From); !ok {
			return refuse("WithFrom", "%q is no event ID", *s.From)
		}
	}
	return nil
}

// newHandleSettings applies the options of Handle.
func newHandleSettings(opts []HandleOption) (handleSettings, error) {
	s := handleSettings{ready: func() {}}
	for _, opt := range opts {
		if opt == nil {
			return s, &ArgumentError{Argument: "opts", Reason: "contains nil"}
		}
		opt.handle(&s)
	}
	return s, nil
}
