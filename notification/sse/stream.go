package sse

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/notification"
)

// stream is what one client receives. Only the goroutine of its request uses it.
type stream struct {
	beginning

	out       *writer
	eventName func(*notification.Message) string
	heartbeat time.Duration // negative for none
	logger    *zap.Logger

	gaps    <-chan notification.Gap // nil if the subscriber has none, or they are closed
	noticed *notification.Gap       // received from gaps, and not sent yet
	early   *notification.Gap       // the last one sent before its place was known
	last    time.Time               // when the newest gap that was sent had been noticed
}

// serve sends what arrives until the client leaves or is stuck, which is an error, or the subscription ends.
func (s *stream) serve(ctx context.Context) error {
	if err := s.open(); err != nil {
		return err
	}
	// The server still has to end the response.
	defer func() { _ = s.out.within() }()
	silence := time.NewTimer(s.heartbeat)
	defer silence.Stop()
	if s.heartbeat < 0 {
		silence.Stop() // for good
	}
	for {
		// A gap that is noticed lies behind all messages that wait. If there are none, this is its place. The next one
		// stays where it is until then.
		var gaps <-chan notification.Gap
		if len(s.subscriber.Messages()) == 0 {
			if err := s.sendNoticed(); err != nil {
				return err
			}
			gaps = s.gaps
		}
		var err error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case m, ok := <-s.subscriber.Messages():
			if !ok {
				return s.end(ctx)
			}
			err = s.message(m)
		case g, ok := <-gaps:
			err = s.gapNoticed(g, ok)
		case <-silence.C:
			err = s.out.send([]byte(heartbeatFrame))
		}
		if err != nil {
			return err
		}
		if s.heartbeat > 0 {
			silence.Reset(s.heartbeat)
		}
	}
}

// open sends the header and what comes before the first message.
func (s *stream) open() error {
	err := s.out.open()
	if err == nil && s.id != "" {
		err = s.out.send(idFrame(s.id))
	}
	if err == nil && s.gap.Reason != "" {
		err = s.out.send(gapFrame(s.gap))
	}
	return err
}

// message sends a message, and the gap before it unless it was sent already.
func (s *stream) message(m *notification.Message) error {
	if g := m.Gap; g != nil {
		if s.noticed != nil && !s.noticed.Time.After(g.Time) {
			s.noticed = nil // it is part of this one
		}
		switch {
		case !s.wasEarly(g):
			if err := s.sendGap(*g); err != nil {
				return err
			}
		case g.Before == "" && m.EventID != "":
			s.early = nil // it is open, and comes once more where it ends
		}
	}
	return s.out.send(messageFrame(m, s.eventName(m)))
}

// wasEarly reports whether a gap, found in its place, was sent before.
func (s *stream) wasEarly(g *notification.Gap) bool {
	return s.early != nil && g.Reason == s.early.Reason && g.Time.Equal(s.early.Time) && g.Missed <= s.early.Missed
}

// gapNoticed keeps a gap for its place, unless that has been reached before the gap was read here.
func (s *stream) gapNoticed(g notification.Gap, open bool) error {
	if !open {
		s.gaps = nil
		return nil
	}
	if !g.Time.IsZero() && !g.Time.After(s.last) {
		return nil
	}
	err := s.sendNoticed() // there is room for one
	s.noticed = &g
	return err
}

// sendNoticed sends the gap that waits for its place, if there is one.
func (s *stream) sendNoticed() error {
	if s.noticed == nil {
		return nil
	}
	s.early, s.noticed = s.noticed, nil
	return s.sendGap(*s.early)
}

func (s *stream) sendGap(g notification.Gap) error {
	if g.Time.After(s.last) {
		s.last = g.Time
	}
	return s.out.send(gapFrame(g))
}

// end sends the gaps that came with no message, and why the subscription was closed.
func (s *stream) end(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // which closed the subscription
	}
	if err := s.remainingGaps(); err != nil {
		return err
	}
	reason := "closed"
	switch err := errorOf(s.subscriber); {
	case errors.Is(err, notification.ErrSlowSubscriber):
		reason = "slow"
	case err != nil && !errors.Is(err, notification.ErrClosed):
		reason = "failed"
		s.logger.Warn("notification: event stream failed", zap.Error(err))
	}
	return s.out.send(closeFrame(reason))
}

// remainingGaps sends what is left in gaps.
func (s *stream) remainingGaps() error {
	for s.gaps != nil {
		var err error
		select {
		case g, ok := <-s.gaps:
			err = s.gapNoticed(g, ok)
		default:
			s.gaps = nil
		}
		if err != nil {
			return err
		}
	}
	return s.sendNoticed()
}
