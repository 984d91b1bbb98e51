package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
)

// listen keeps a session open until Close.
func (f *Feed) listen() {
	var number uint64
	for failures := 0; f.ctx.Err() == nil; {
		began := time.Now()
		number++
		up, err := f.attempt(number, failures)
		f.note(err)
		if f.ctx.Err() != nil {
			return
		}
		if up && time.Since(began) > 2*f.set.MaxPause {
			failures = 0 // it was up for a while, so this is no series
		}
		failures++
		f.lookAround()
		what := "notification: connection lost, reconnecting"
		if errors.Is(err, redisx.ErrNotStarted) {
			what = "notification: a subscription waits for the client to start"
		}
		f.connecting.Log(f.set.Logger, zap.WarnLevel, what, zap.Error(err), zap.Int("failures", failures))
		_ = redisx.Sleep(f.ctx, redisx.Backoff(failures, minPause, f.set.MaxPause))
	}
}

// attempt is one session from its beginning to its end. It returns whether it was up, and why it ended.
func (f *Feed) attempt(number uint64, failures int) (up bool, err error) {
	master, err := f.home()
	if err != nil {
		return false, err
	}
	s := f.newSession(number, master)
	defer s.close()
	defer func() {
		if s.opened && f.ctx.Err() == nil {
			f.lost.Add(1)
		}
	}()
	if err := f.greet(s, master != nil); err != nil {
		return false, s.reason(err)
	}
	f.setSession(s)
	f.names.begin(s)
	f.BeatSoon()
	err = s.reason(f.read(s, failures))
	s.end(err)
	s.close()
	f.setSession(nil)
	f.names.finish(s)
	if !f.muted.Load() {
		f.sink.Down(s, err)
	}
	return s.up, err
}

// reason returns why the session has ended, which is seldom what reading fails with.
func (s *Session) reason(err error) error {
	cause := context.Cause(s.ctx)
	switch {
	case errors.Is(cause, context.Canceled): // not by end
		return ErrClosed
	case cause != nil:
		return cause
	default:
		return err
	}
}

// cluster is what a *redis.ClusterClient can do beyond the common interface.
type cluster interface {
	ReloadState(ctx context.Context)
	MasterForKey(ctx context.Context, key string) (*redis.Client, error)
}

// home returns the client of the master of a cluster that has the journal, and nil where there is no cluster. Other nodes
// deliver too, but the bus between them may lose messages, and nobody would know.
func (f *Feed) home() (*redis.Client, error) {
	c, ok := redisx.Unwrap[cluster](f.set.Client)
	if !ok {
		return nil, nil //nolint:nilnil // as the comment says
	}
	return c.MasterForKey(f.ctx, f.set.Key)
}

// lookAround makes a cluster client ask who the masters are now. By itself it does so when a node sends it elsewhere,
// which a dead one never does, or when what it knows is ten seconds old.
func (f *Feed) lookAround() {
	if c, ok := redisx.Unwrap[cluster](f.set.Client); ok {
		c.ReloadState(f.ctx)
	}
}

// dead is a cancelled context. Given to PubSub it keeps go-redis from reconnecting behind our back: reading and writing do
// not look at it, dialing does.
func dead() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// greet opens the connection and subscribes to what the session itself needs. Only then can a server be asked whether it
// is the one that delivers.
func (f *Feed) greet(s *Session, guarded bool) error {
	if err := s.pubsub.Subscribe(s.ctx, s.Beats); err != nil {
		return err
	}
	s.opened = true
	s.watch()
	err := f.confirmed(s)
	if isRefusal(err) {
		f.refusing.Log(f.set.Logger, zap.ErrorLevel, "notification: subscription refused",
			zap.String("name", s.Beats), zap.Error(err))
		return fmt.Errorf("notification: subscription to %q refused: %w", s.Beats, err)
	}
	if err != nil || !guarded {
		return err
	}
	if err := f.guard(s); err != nil {
		return err
	}
	// A replica takes SSUBSCRIBE, too. That the journal is elsewhere it says when asked for it.
	err = s.beater.Exists(s.ctx, f.set.Key).Err()
	if isRefusal(err) || isPassing(err) {
		return nil
	}
	return err
}

// guard makes a node of a cluster say when it is no longer the one with the journal: it then ends what was subscribed to
// as sharded channels. All else goes on after that, and a node that was cut off for a while would bring what others publish
// now without what they have published meanwhile.
func (f *Feed) guard(s *Session) error {
	if err := s.pubsub.SSubscribe(dead(), s.Beats); err != nil {
		return err
	}
	err := f.confirmed(s)
	if !isRefusal(err) {
		f.setUnguarded(nil)
		return err // a node that is the wrong one says MOVED
	}
	// By a server that does not know it, or to a user who may not do it.
	f.setUnguarded(fmt.Errorf("notification: SSUBSCRIBE refused, so a node that loses the journal does not say so: %w", err))
	f.guarding.Log(f.set.Logger, zap.WarnLevel, "notification: node does not tell when it loses the journal", zap.Error(err))
	return nil
}

// confirmed waits for the answer to a first command.
func (f *Feed) confirmed(s *Session) error {
	for {
		received, err := s.pubsub.Receive(dead())
		if err != nil {
			return err
		}
		if _, ok := received.(*redis.Subscription); ok {
			return nil
		}
	}
}
