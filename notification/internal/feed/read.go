package feed

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// read passes on what the connection delivers until it breaks.
func (f *Feed) read(s *Session, failures int) error {
	ctx := dead()
	for {
		received, err := s.pubsub.Receive(ctx)
		if err != nil {
			if err := f.refused(s, err); err != nil {
				return err
			}
		} else {
			switch m := received.(type) {
			case *redis.Message:
				f.received(s, m)
			case *redis.Subscription:
				if err := f.answered(s, m); err != nil {
					return err
				}
			}
		}
		if !s.up && s.beaten && f.names.settled(s) {
			f.rise(s, failures)
		}
	}
}

// rise says that the session is up.
func (f *Feed) rise(s *Session, failures int) {
	s.up = true
	f.isUp()
	fields := []zap.Field{zap.Uint64("session", s.Number), zap.Int("failures", failures)}
	if s.Number == 1 {
		f.set.Logger.Info("notification: connected", fields...)
	} else {
		f.connecting.Over(f.set.Logger, "notification: connected", fields...)
	}
	if f.enter(s) {
		f.sink.Up(s)
		s.life.leave()
	}
}

// enter reports whether the sink may be called; leave of the session's life has to follow. Names that were added again are
// confirmed first.
func (f *Feed) enter(s *Session) bool {
	if f.muted.Load() {
		return false
	}
	s.life.enter()
	for _, name := range f.names.repeats() {
		f.sink.Confirmed(s, name)
	}
	return true
}

// received passes a message on.
func (f *Feed) received(s *Session, m *redis.Message) {
	if m.Channel == s.Beats && m.Pattern == "" {
		f.returned(s, m.Payload)
		return
	}
	if f.set.Internal(m.Channel, m.Payload) {
		return // a glob such as "*" matches these too
	}
	name := Name{Text: m.Channel}
	if m.Pattern != "" {
		name = Name{Text: m.Pattern, Glob: true}
	}
	name.Text = strings.TrimPrefix(name.Text, f.set.Prefix)
	if f.enter(s) {
		f.sink.Message(s, name, strings.TrimPrefix(m.Channel, f.set.Prefix), m.Payload)
		s.life.leave()
	}
}

// returned notes a heartbeat: the connection works in both directions.
func (f *Feed) returned(s *Session, payload string) {
	digits, _, _ := strings.Cut(payload, "\n")
	number, _ := strconv.ParseUint(digits, 10, 64)
	s.life.returned(number)
	f.lastBeat.Store(s.life.contact.Load())
	s.beaten = true
	if f.enter(s) {
		f.sink.Beat(s, payload)
		s.life.leave()
	}
}

// answered handles what Redis says about a name.
func (f *Feed) answered(s *Session, m *redis.Subscription) error {
	if m.Kind == "sunsubscribe" {
		return errMoved
	}
	e, err := f.names.answered(s, m.Kind, strings.TrimPrefix(m.Channel, f.set.Prefix))
	if e != nil && f.enter(s) {
		f.sink.Confirmed(s, e.name)
		s.life.leave()
	}
	return err
}

// refused handles an error that Redis answered, such as a missing permission. It returns why the session cannot go on: the
// connection broke, the error will pass, or it is about no name.
func (f *Feed) refused(s *Session, err error) error {
	if !isRefusal(err) {
		return err
	}
	c, forgotten, ok := f.names.refused(s)
	switch {
	case !ok:
		return err
	case c.drop:
		level := zap.WarnLevel
		if s.keeps {
			level = zap.DebugLevel // there may be as many as there are workflows
		}
		s.keeps = true
		f.set.Logger.Log(level, "notification: a name that nobody listens to stays subscribed",
			zap.String("name", f.set.Prefix+c.entries[0].name.Text), zap.Error(err))
	case forgotten != nil:
		name := f.set.Prefix + forgotten.name.Text
		f.refusing.Log(f.set.Logger, zap.ErrorLevel, "notification: subscription refused",
			zap.String("name", name), zap.Error(err))
		if f.enter(s) {
			f.sink.Refused(s, forgotten.name, fmt.Errorf("notification: subscription to %q refused: %w", name, err))
			s.life.leave()
		}
	}
	return nil
}

// ask keeps what Redis was asked for equal to what is wanted: new names are added, those given up dropped after a while.
func (f *Feed) ask() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-f.names.wake:
		case <-timer.C:
		case <-f.ctx.Done():
			return
		}
		timer.Reset(f.names.expire())
		for {
			s, c, ok := f.names.take()
			if !ok {
				break
			}
			if err := s.send(c, f.set.Prefix); err != nil {
				s.end(fmt.Errorf("notification: changing subscriptions failed: %w", err))
			}
		}
	}
}

// send sends a command. An error ends the session, and the next one begins with all names.
func (s *Session) send(c command, prefix string) error {
	ctx, texts := dead(), c.texts(prefix)
	switch c.verb {
	case "subscribe":
		return s.pubsub.Subscribe(ctx, texts...)
	case "psubscribe":
		return s.pubsub.PSubscribe(ctx, texts...)
	case "unsubscribe":
		return s.pubsub.Unsubscribe(ctx, texts...)
	default:
		return s.pubsub.PUnsubscribe(ctx, texts...)
	}
}
