package near

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/push"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
)

var (
	errSilent = errors.New("store: the near cache's server did not answer in time")
	errRole   = errors.New("store: the near cache's server is no master any more")
	errMoved  = errors.New("store: another server is the master now")
)

// session is the time for which a master's changes are heard.
type session struct {
	m        *master
	prefixes []string
	limit    time.Duration // an answer may take so long

	ctx    context.Context
	cancel context.CancelCauseFunc

	conns  conns
	where  dialer // opens a connection to the master that sentinels name; else nil
	remote string // address of the subscribed connection
	pubsub *redis.PubSub
	beside *redis.Client // for questions

	tracks     bool          // CLIENT TRACKING was accepted; set before listen begins
	pongs      chan struct{} // one for each answered PING
	subscribed chan struct{} // one for each subscription that was confirmed
	blind      bool          // the server does not say which role it has
}

// newSession opens no connection.
func newSession(m *master) *session {
	s := &session{m: m, pongs: make(chan struct{}, 1), subscribed: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancelCause(m.ctx)
	return s
}

// run opens the connections, and makes rounds until something fails.
func (s *session) run() error {
	defer s.cancel(nil)
	client, beside := s.clients()
	s.beside = beside
	s.pubsub = client.Subscribe(s.ctx)
	stop := context.AfterFunc(s.ctx, s.conns.cut)
	listening := make(chan struct{})
	close(listening)
	defer func() {
		stop()
		s.conns.cut()
		<-listening
		_ = s.pubsub.Close()
		_, _ = client.Close(), beside.Close()
	}()
	err := s.open()
	if err == nil {
		listening = make(chan struct{})
		go func() {
			defer close(listening)
			s.end(s.listen())
		}()
		err = s.rounds()
	}
	s.end(err)
	return context.Cause(s.ctx)
}

// end ends the session, and what relies on it is not served any more. The first call decides why.
func (s *session) end(err error) {
	s.cancel(err)
	s.m.t.change(s.m.unheard)
}

// clients returns one for the connection that is subscribed, and one for questions.
func (s *session) clients() (client, beside *redis.Client) {
	separate := func(remote *string, adjust func(*redis.Options)) *redis.Client {
		return redisx.Separate(s.m.t.set.Client, s.m.node, surveyors, func(o *redis.Options) {
			s.where = s.sentinels(o)
			o.Protocol = 3
			o.Dialer = s.conns.once(o.Dialer, remote)
			o.DialerRetries, o.MaxRetries = 1, -1
			o.ConnMaxLifetime, o.ConnMaxIdleTime = 0, -1
			o.ClientSideCacheConfig, o.ClientSideCache = nil, nil
			adjust(o)
		})
	}
	client = separate(&s.remote, func(o *redis.Options) { o.OnConnect = s.onConnect(o.OnConnect) })
	// The name is not taken: there is one handler.
	_ = client.RegisterPushNotificationHandler("invalidate", invalidations{s.m.t}, false)
	return client, separate(new(string), func(*redis.Options) {})
}

// onConnect returns what the subscribed connection begins with.
func (s *session) onConnect(inner func(context.Context, *redis.Conn) error) func(context.Context, *redis.Conn) error {
	return func(ctx context.Context, cn *redis.Conn) error {
		if inner != nil {
			if err := inner(ctx, cn); err != nil {
				return err
			}
		}
		// Without RESP3 Redis accepts the command and sends nothing.
		hello, err := greeting(ctx, cn)
		switch {
		case isRefusal(err):
			return nil
		case err != nil:
			return err
		case hello.role != "" && hello.role != "master":
			return errRole
		case hello.protocol != 3:
			return nil
		}
		args := []any{"client", "tracking", "on", "bcast"}
		for _, p := range s.prefixes {
			args = append(args, "prefix", p)
		}
		cmd := redis.NewStatusCmd(ctx, args...)
		err = cn.Process(ctx, cmd)
		if isRefusal(err) {
			s.m.t.falling.Log(s.m.t.set.Logger, zap.WarnLevel,
				"store: server does not track keys, so the near cache listens to a channel", zap.Error(err))
			return nil
		}
		s.tracks = err == nil
		return err
	}
}

// invalidations handles what a server that tracks sends.
type invalidations struct{ t *Tracker }

var _ push.NotificationHandler = invalidations{}

// HandlePushNotification takes the keys that have changed, or nil for all.
func (i invalidations) HandlePushNotification(
	_ context.Context, _ push.NotificationHandlerContext, notification []any,
) error {
	if len(notification) > 1 {
		if keys, ok := notification[1].([]any); ok {
			i.t.changed(keys)
			return nil
		}
	}
	i.t.flushed() // also for what is not understood
	return nil
}

// dead returns a cancelled context. Given to PubSub it keeps go-redis from reconnecting behind our back: reading and writing
// do not look at it, dialing does.
func dead() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// open opens the connections.
func (s *session) open() error {
	ctx, cancel := context.WithTimeout(s.ctx, handshake)
	defer cancel()
	if err := s.pubsub.Ping(ctx); err != nil {
		return err
	}
	if !s.tracks {
		if err := s.pubsub.Subscribe(dead(), s.m.t.set.Channel); err != nil {
			return err
		}
	}
	return s.identify(ctx)
}

// listen takes what the subscribed connection brings, until it breaks.
func (s *session) listen() error {
	ctx := dead()
	for {
		received, err := s.pubsub.Receive(ctx)
		if err != nil {
			return err
		}
		switch r := received.(type) {
		case *redis.Pong:
			signal(s.pongs)
		case *redis.Subscription:
			signal(s.subscribed)
		case *redis.Message:
			if r.Payload == "" {
				s.m.t.flushed()
			} else {
				s.m.t.changed([]any{r.Payload})
			}
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// rounds moves the watermark on. It returns why it cannot.
func (s *session) rounds() error {
	timer := time.NewTimer(s.limit)
	defer timer.Stop()
	if err := s.wait(timer, s.pongs); err != nil { // for the PING that opened the connection
		return err
	}
	if !s.tracks {
		if err := s.wait(timer, s.subscribed); err != nil {
			return err
		}
	}
	previous := int64(never) // when the round before began
	unsettled := 0           // rounds in a row
	for first := true; ; first = false {
		began := s.m.t.trust.now()
		timer.Reset(s.limit)
		settled, err := s.check()
		if err != nil {
			return err
		}
		if err := s.pubsub.Ping(dead()); err != nil {
			return fmt.Errorf("store: the near cache's connection broke: %w", err)
		}
		if err := s.wait(timer, s.pongs); err != nil {
			return err
		}
		s.m.t.change(func() {
			if s.ctx.Err() == nil {
				s.m.ready, s.m.published, s.m.mark = settled, !s.tracks, previous
			}
		})
		pause := s.limit/rounds - time.Duration(s.m.t.trust.now()-began)
		previous = began
		if !settled {
			previous = never
			unsettled++
			s.m.t.look()
			pause = min(pause, redisx.Backoff(unsettled, minPause, maxPause))
		} else if unsettled > 0 || first {
			unsettled, pause = 0, 0 // the next round brings the first watermark
		}
		if err := redisx.Sleep(s.ctx, pause); err != nil {
			return err
		}
	}
}

// wait waits for a signal of the listening goroutine.
func (s *session) wait(timer *time.Timer, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-timer.C:
		return errSilent
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}
