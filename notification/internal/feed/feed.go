package feed

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
)

const (
	minPause = 10 * time.Millisecond // before the first attempt to connect again
	maxPause = time.Second

	// closeGrace is how long Close waits beyond its context.
	closeGrace = 100 * time.Millisecond

	goroutines = 3
)

// ErrClosed is why the last session ended when Close was called.
var ErrClosed = errors.New("notification: the connection was closed")

// Name is what Redis is asked for, as users write it, without the channel prefix. The text alone would not do: the channel
// of a workflow with the ID "*" is spelled like a glob.
type Name struct {
	Text string
	Glob bool
}

// Sink takes what a Feed receives. One call is made at a time, in the order of the connection. While a call lasts nothing
// is read: Redis buffers, and cuts the connection when it has enough of that (client-output-buffer-limit pubsub). A Sink
// may call any method of the Feed but Close.
//
// Of one session it is called like this: Confirmed, Refused, Message and Beat in any order, among them Up once unless the
// session ends before, and Down at the end. A connection that cannot be opened causes no call; Feed.Status has its error.
type Sink interface {
	// Up says that each name the session began with was confirmed or refused, and that a heartbeat came back.
	Up(s *Session)
	// Confirmed says that what is published to the name from now on arrives. Each Add is answered by a later Confirmed or
	// Refused, and so is each name again in every session.
	Confirmed(s *Session, n Name)
	// Refused says that the user has no permission for the name. It is forgotten as if Remove had been called, and the
	// session goes on.
	Refused(s *Session, n Name, err error)
	// Message hands over what was published to a channel, for one of the names. The name may not be wanted any more. The
	// channel is without the prefix.
	Message(s *Session, n Name, channel, payload string)
	// Beat hands over a heartbeat that came back. Its payload begins with its number. One that is nothing but the number
	// says that Settings.Beat was refused.
	Beat(s *Session, payload string)
	// Down says that the session has ended, and why. What is published from now on does not arrive.
	Down(s *Session, err error)
}

// Settings of a Feed.
type Settings struct {
	// Client leads to the server; what it is set to is used for connections of the Feed's own.
	Client redis.UniversalClient
	// Key decides which master of a Cluster to listen to.
	Key string
	// Channel is what the channels of heartbeats begin with. Nobody else's may begin so. In a Cluster it has the hash tag
	// of Key.
	Channel string
	// Prefix stands before each name in Redis. It must not contain what a glob gives a meaning to.
	Prefix string
	// Internal reports whether a message is for this module alone; such are not passed on. Nil: none is.
	Internal func(channel, payload string) bool

	// Beat sends a heartbeat: it publishes a payload to the channel that begins with the number and, if there is more,
	// a newline. Where the server refuses it, the number alone is published. Nil: it always is.
	Beat func(ctx context.Context, c redis.UniversalClient, channel string, number uint64) error
	// Needs says in the log which commands Beat needs.
	Needs string

	// Heartbeat is how often one is sent. A connection on which none comes back for three times as long is given up.
	Heartbeat time.Duration
	// Linger is for how long Redis stays asked for a name after Remove.
	Linger time.Duration
	// MaxPause bounds the pause before connecting again. 0 means a second.
	MaxPause time.Duration
	// Logger must not be nil.
	Logger *zap.Logger
}

// Feed is the connection, made again whenever it is lost. All its methods are safe for concurrent use.
type Feed struct {
	set   Settings
	sink  Sink
	names *names
	began time.Time // what instants are counted from

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	muted  atomic.Bool   // Close has returned
	done   chan struct{} // closed when the last goroutine has ended

	soon      chan struct{} // asks for a heartbeat; never holds more than one
	number    atomic.Uint64 // of the last heartbeat sent
	lost      atomic.Int64  // connections
	lastBeat  atomic.Int64  // instant at which one came back, or of Start
	counted   atomic.Bool   // a server has counted us among those who listen
	uncounted atomic.Int64  // how many sessions have ended since none has

	connecting, refusing, guarding redisx.Repeated // conditions that may come up many times in a row

	mu        sync.Mutex // guards what follows
	started   bool
	closed    bool
	running   int           // goroutines that have not ended
	session   *Session      // what heartbeats are sent for, nil while there is none
	up        bool          // it is up
	changed   chan struct{} // closed and replaced when up changes
	cause     error         // why the last session ended, or could not begin
	unguarded error         // why a node will not say that it has lost the journal
}

// New returns a Feed that does nothing before Start.
func New(set Settings, sink Sink) *Feed {
	if set.MaxPause == 0 {
		set.MaxPause = maxPause
	}
	if set.Internal == nil {
		set.Internal = func(string, string) bool { return false }
	}
	f := &Feed{
		set: set, sink: sink, names: newNames(set.Linger), began: time.Now(),
		done: make(chan struct{}), soon: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	f.ctx, f.cancel = context.WithCancel(redisx.Background(context.Background()))
	return f
}

// Start begins to connect. Further calls, and those after Close, do nothing.
func (f *Feed) Start() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.started || f.closed {
		return
	}
	f.started, f.running = true, goroutines
	f.lastBeat.Store(f.now()) // the first one is due from now on
	for _, work := range [goroutines]func(){f.listen, f.ask, f.beat} {
		go func() {
			defer f.ended()
			work()
		}()
	}
}

// ended counts a goroutine that has returned.
func (f *Feed) ended() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running--; f.running == 0 {
		close(f.done)
	}
}

// Add asks for names. It does not wait: the Sink hears of each, also of those that were asked for before.
func (f *Feed) Add(names ...Name) { f.names.add(names) }

// Remove gives names up. Redis stays asked for them for a while, so that a quick return costs nothing.
func (f *Feed) Remove(names ...Name) { f.names.remove(names) }

// Names returns how many names there are, those that were given up a moment ago included.
func (f *Feed) Names() int { return f.names.count() }

// Lost returns how many connections were opened and lost, Close aside.
func (f *Feed) Lost() int64 { return f.lost.Load() }

// NextBeat returns a number: heartbeats with that number or a higher one are sent after the call. It sends none.
func (f *Feed) NextBeat() (number uint64) { return f.number.Load() + 1 }

// BeatSoon makes a heartbeat go out at once, or with the next session. It returns a number: a heartbeat with that number
// or a higher one is sent after the call to BeatSoon, and before long. Callers share heartbeats.
func (f *Feed) BeatSoon() (number uint64) {
	number = f.NextBeat()
	select {
	case f.soon <- struct{}{}:
	default:
	}
	return number
}

// Close ends the connection and waits until the Sink's call that was under way has returned, and Down. If ctx ends before,
// it returns the cause of ctx a moment later. No further call is made to the Sink after Close has returned.
func (f *Feed) Close(ctx context.Context) error {
	f.mu.Lock()
	f.closed = true
	started := f.started
	f.mu.Unlock()
	f.cancel()
	if !started {
		return nil
	}
	defer f.muted.Store(true)
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
	}
	// Usually what is left to do takes no time.
	timer := time.NewTimer(closeGrace)
	defer timer.Stop()
	select {
	case <-f.done:
		return nil
	case <-timer.C:
		return context.Cause(ctx)
	}
}

// now returns the present instant, on a clock that never jumps.
func (f *Feed) now() int64 { return int64(time.Since(f.began)) }

// deadline is how long heartbeats may fail to come back.
func (f *Feed) deadline() time.Duration { return missingBeats * f.set.Heartbeat }
