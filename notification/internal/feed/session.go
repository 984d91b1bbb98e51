package feed

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// readers is how many connections Session.Client has.
	readers = 3
	// beaters is how many there are for heartbeats. One is used; go-redis asks nobody for a second after as many dials as
	// that have failed.
	beaters = 2
	// lifetime is how long connections beside the subscribing one are used. A new one goes where the address leads by
	// then, which shows that another server has become the master while the former one lives on.
	lifetime = 30 * time.Second
	// uncountedSessions is how many sessions may end because a server does not count their subscriptions, before it is
	// believed that none does, as behind a proxy that listens in our place.
	uncountedSessions = 5
)

var (
	errElsewhere = errors.New("notification: commands lead to another server than the connection")
	errSilent    = errors.New("notification: no heartbeat came back")
	errMoved     = errors.New("notification: the journal is on another node now")
)

// Session is the time between a connect and the cut that ends it.
type Session struct {
	// Number grows by one with each connection that was opened.
	Number uint64
	// Client has a few connections of its own to the server that the session is on, for what is read beside it. It is
	// closed when the session ends. No more than three callers should use it at a time.
	Client redis.UniversalClient
	// Beats is the channel of the session's heartbeats, which nobody else listens to.
	Beats string

	ctx    context.Context // ends with the session
	cancel context.CancelCauseFunc
	pubsub *redis.PubSub
	beater redis.UniversalClient // for heartbeats
	own    []*redis.Client       // to be closed with the session
	conns  conns
	life   life

	beatErr atomic.Pointer[error] // what the last heartbeat could not be sent for
	closing sync.Once

	talk   talk // guarded by names.mu
	opened bool // there was a connection; only the reader touches it, as what follows
	up     bool
	beaten bool // a heartbeat came back
	keeps  bool // a name could not be given up, which was logged
	blind  bool // Settings.Beat was refused, which was logged; only beat touches it

	mu  sync.Mutex
	dog *time.Timer // looks whether the connection is dead; guarded by mu
}

// Done returns a channel that is closed when the session ends.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// newSession makes a session on a server: that of the client, or a master of its cluster. It opens no connection.
func (f *Feed) newSession(number uint64, master *redis.Client) *Session {
	s := &Session{Number: number, Beats: f.set.Channel + strconv.FormatUint(number, 10)}
	s.ctx, s.cancel = context.WithCancelCause(f.ctx)
	s.life.now, s.life.deadline, s.life.interval = f.now, f.deadline(), f.set.Heartbeat
	separate := func(connections int, adjust func(*redis.Options)) redis.UniversalClient {
		c := redisx.Separate(f.set.Client, master, connections, adjust)
		if c == nil {
			return f.set.Client // one that nothing is known of
		}
		c.AddHook(&s.conns)
		s.own = append(s.own, c)
		return c
	}
	s.pubsub = separate(1, func(o *redis.Options) {
		o.Dialer = s.conns.dialer(o.Dialer, &s.life)
		if o.ReadTimeout <= 0 {
			o.ReadTimeout = f.deadline() // for what go-redis asks a new connection, before watch begins
		}
	}).Subscribe(s.ctx)
	beside := func(o *redis.Options) {
		o.Dialer = s.conns.dialer(o.Dialer, nil)
		o.OnConnect = f.onConnect(s, o.OnConnect)
		o.DialerRetries = 1
		if o.ConnMaxLifetime <= 0 || o.ConnMaxLifetime > lifetime {
			o.ConnMaxLifetime, o.ConnMaxLifetimeJitter = lifetime, 0
		}
	}
	s.beater = separate(beaters, func(o *redis.Options) {
		beside(o)
		o.MaxRetries = -1 // beat sends the next one soon
	})
	s.Client = separate(readers, beside)
	context.AfterFunc(s.ctx, s.close)
	return s
}

// onConnect returns what each connection for commands begins with: it must lead to the server that delivers.
func (f *Feed) onConnect(s *Session, inner func(context.Context, *redis.Conn) error) func(context.Context, *redis.Conn) error {
	return func(ctx context.Context, cn *redis.Conn) error {
		if inner != nil {
			if err := inner(ctx, cn); err != nil {
				return err
			}
		}
		listeners, err := cn.PubSubNumSub(ctx, s.Beats).Result()
		switch {
		case isRefusal(err):
			return nil // nobody can tell
		case err != nil:
			return err
		case listeners[s.Beats] > 0:
			f.counted.Store(true)
			return nil
		case s.ctx.Err() != nil:
			return context.Cause(s.ctx)
		case !f.counted.Load() && f.uncounted.Add(1) > uncountedSessions:
			return nil
		}
		s.end(errElsewhere)
		return errElsewhere
	}
}

// watch ends the session when its connection is dead.
func (s *Session) watch() {
	s.life.contact.Store(s.life.now())
	s.look()
}

// look is called by the timer that watch begins.
func (s *Session) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return
	}
	if left := s.life.left(); left > 0 {
		s.dog = time.AfterFunc(s.life.next(left), s.look)
		return
	}
	reason := errSilent
	if failed := s.beatErr.Load(); failed != nil && *failed != nil {
		reason = fmt.Errorf("%w: %w", errSilent, *failed)
	}
	s.end(reason)
}

// end ends the session. The first call decides why.
func (s *Session) end(err error) { s.cancel(err) }

// close ends the session if nothing else has, and returns when it has no connections any more.
func (s *Session) close() {
	s.end(nil)
	s.closing.Do(s.shut)
}

func (s *Session) shut() {
	s.mu.Lock()
	if s.dog != nil {
		s.dog.Stop()
	}
	s.mu.Unlock()
	s.conns.cut()
	_ = s.pubsub.Close()
	for _, c := range s.own {
		_ = c.Close()
	}
}

// isRefusal reports whether the server says that it will not do this, and is not about to change its mind.
func isRefusal(err error) bool {
	if !redisx.IsReply(err) || redisx.IsTransient(err) {
		return false
	}
	// Two nodes of a cluster may send a client to and fro for a moment, and a password may be changed on one side first.
	for _, passing := range []string{"MOVED", "ASK", "NOAUTH", "WRONGPASS"} {
		if redis.HasErrorPrefix(err, passing) {
			return false
		}
	}
	return true
}
