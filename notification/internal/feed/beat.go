package feed

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
)

// beat sends heartbeats. They go out on an ordinary connection and have to come back on the subscribing one: only that
// shows that the server still delivers to it.
func (f *Feed) beat() {
	timer := time.NewTimer(f.set.Heartbeat)
	defer timer.Stop()
	failures := 0
	for {
		select {
		case <-timer.C:
		case <-f.soon:
		case <-f.ctx.Done():
			return
		}
		pause := f.set.Heartbeat
		if s := f.current(); s != nil {
			err := f.sendBeat(s)
			s.beatErr.Store(&err)
			failures++
			switch {
			case err == nil:
				failures = 0
			case s.ctx.Err() == nil:
				f.set.Logger.Debug("notification: heartbeat not sent", zap.Error(err))
				// Somebody may wait for it, and it may have been an old connection that failed.
				pause = min(pause, redisx.Backoff(failures, minPause, maxPause))
			}
		}
		timer.Reset(pause)
	}
}

// sendBeat sends a heartbeat. One that is refused in full is sent as a number: what may not be read, or not now, must not
// keep us from knowing that the connection works.
func (f *Feed) sendBeat(s *Session) error {
	ctx, cancel := context.WithTimeout(s.ctx, f.set.Heartbeat)
	defer cancel()
	number := f.number.Add(1)
	plain := f.set.Beat == nil
	if !plain {
		err := f.set.Beat(ctx, s.beater, s.Beats, number)
		switch {
		case err == nil:
		case redis.HasErrorPrefix(err, "MOVED"):
			s.end(errMoved)
			return err
		case isPassing(err):
			plain = true
		case isRefusal(err):
			plain = true
			f.isBlind(s, err)
		default:
			return err
		}
	}
	if plain {
		err := s.beater.Publish(ctx, s.Beats, number).Err()
		if isRefusal(err) {
			s.end(fmt.Errorf("notification: heartbeats to %q refused: %w", s.Beats, err))
		}
		if err != nil {
			return err
		}
	}
	s.life.sent.Store(number)
	return nil
}

// isPassing reports whether a server says that it cannot use the keys just now. It still delivers: while a slot leaves it,
// until all of it has, and as a replica.
func isPassing(err error) bool {
	for _, code := range []string{"ASK ", "TRYAGAIN ", "READONLY ", "MASTERDOWN ", "NOREPLICAS "} {
		if redis.HasErrorPrefix(err, code) {
			return true
		}
	}
	return false
}

// isBlind logs that full heartbeats are refused, once for each session.
func (f *Feed) isBlind(s *Session, err error) {
	if s.blind {
		return
	}
	s.blind = true
	// Redis before 7.2 does not say which command a user lacks.
	f.set.Logger.Warn("notification: the state of the journal cannot be read, so nothing is recovered",
		zap.Error(err), zap.String("needed", f.set.Needs))
}
