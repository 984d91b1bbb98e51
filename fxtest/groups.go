package fxtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/compozy/cache/internal/glob"
	"github.com/compozy/cache/notification"
)

// group is what the members of a group of notification.Consume share. The system's mu guards it.
type group struct {
	pattern string
	members []*groupMember
	events  []*groupEvent // oldest first
	dead    []*notification.DeadLetter
	changed chan struct{} // closed, and replaced, when there may be something to do
}

// groupMember is one call of notification.Consume.
type groupMember struct {
	set    *notification.ConsumeSettings
	cancel context.CancelCauseFunc // of its functions
}

// groupEvent is an event that a group has not done yet.
type groupEvent struct {
	message  notification.Message
	attempts int
	due      time.Time
	taken    bool
	returned bool // by a member that stopped; that attempt does not count
}

var _ notification.Consumer = (*NotificationSystem)(nil)

// ConsumeMessages makes notification.Consume work: members of a group share its events, which come again when they fail and
// go to its dead letters, and the group keeps what is published while it has no member. Nobody dies here, so nothing is
// taken over. Close cancels the functions under way. Programs call notification.Consume.
func (s *NotificationSystem) ConsumeMessages(
	ctx context.Context, name, pattern string, handle func(context.Context, *notification.Message) error,
	set notification.ConsumeSettings,
) error {
	handling, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m := &groupMember{set: &set, cancel: cancel}
	g, err := s.join(ctx, name, pattern, m)
	if g == nil {
		return err
	}
	set.Ready()
	var workers sync.WaitGroup
	for range set.Concurrency {
		workers.Go(func() {
			for e := s.take(handling, g); e != nil; e = s.take(handling, g) {
				s.settle(handling, g, e, &set, call(handling, e, handle))
			}
		})
	}
	workers.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	g.members = slices.DeleteFunc(g.members, func(other *groupMember) bool { return other == m })
	if ctx.Err() != nil {
		return nil
	}
	return notification.ErrClosed
}

// join makes a member one of its group, which begins if there is none. It returns no group if it cannot, with the result of
// Consume.
func (s *NotificationSystem) join(
	ctx context.Context, name, pattern string, m *groupMember,
) (*group, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, notification.ErrClosed
	case ctx.Err() != nil:
		return nil, nil
	}
	g := s.groups[name]
	if g == nil {
		g = &group{pattern: pattern, changed: make(chan struct{})}
		if s.groups == nil {
			s.groups = make(map[string]*group)
		}
		s.groups[name] = g
		if from := m.set.From; from != nil {
			for _, event := range s.published {
				if *from == "" || before(*from, event.ID) {
					g.add(event)
				}
			}
		}
	}
	if g.pattern != pattern {
		return nil, &notification.ArgumentError{
			Argument: "pattern", Reason: fmt.Sprintf("is %q, and that of the group %q is %q", pattern, name, g.pattern),
		}
	}
	g.members = append(g.members, m)
	return g, nil
}

// before reports whether an event ID is of an earlier event than another.
func before(id, other string) bool {
	var a, b eventID
	_, errA := fmt.Sscanf(id, "%d-%d", &a.ms, &a.seq)
	_, errB := fmt.Sscanf(other, "%d-%d", &b.ms, &b.seq)
	return errA == nil && errB == nil && (a.ms < b.ms || a.ms == b.ms && a.seq < b.seq)
}

// add gives an event to the group if its pattern matches. The system's mu is held.
func (g *group) add(event Event) {
	isGlob := strings.ContainsAny(g.pattern, `*?[\`)
	i := slices.IndexFunc(event.Channels, func(channel string) bool {
		return channel == g.pattern && !isGlob || isGlob && glob.Match(g.pattern, channel)
	})
	if i < 0 || event.ID == "" {
		return
	}
	m := notification.Message{
		Channel: event.Channels[i], Payload: event.Payload, EventID: event.ID, Time: event.Time, Recovered: true,
	}
	if isGlob {
		m.Pattern = g.pattern
	}
	g.events = append(g.events, &groupEvent{message: m})
	g.change()
}

// change wakes all members. The system's mu is held.
func (g *group) change() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// take returns the next event that is due, and nil when the member is to stop.
func (s *NotificationSystem) take(ctx context.Context, g *group) *groupEvent {
	for {
		s.mu.Lock()
		if s.closed || ctx.Err() != nil {
			s.mu.Unlock()
			return nil
		}
		e, pause := g.next()
		changed := g.changed
		s.mu.Unlock()
		if e != nil {
			return e
		}
		timer := time.NewTimer(pause)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// next takes the first event that is due, or returns in which time one will be. The system's mu is held.
func (g *group) next() (e *groupEvent, pause time.Duration) {
	pause = time.Hour
	for _, e := range g.events {
		if e.taken {
			continue
		}
		left := time.Until(e.due)
		if left <= 0 {
			e.taken = true
			e.attempts++
			return e, 0
		}
		pause = min(pause, left)
	}
	return nil, pause
}

// call hands an event to a function, and turns a panic into an error.
func call(ctx context.Context, e *groupEvent, handle func(context.Context, *notification.Message) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("fxtest: handler panicked: %v\n%s", v, debug.Stack())
		}
	}()
	m := e.message
	m.Redelivered = e.attempts > 1 || e.returned
	return handle(notification.ConsumeContext(ctx, &m, e.attempts), &m)
}

// settle does with an event what the outcome of its function asks for.
func (s *NotificationSystem) settle(
	ctx context.Context, g *group, e *groupEvent, set *notification.ConsumeSettings, err error,
) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer g.change()
	e.taken = false
	switch {
	case err == nil:
	case ctx.Err() != nil && !errors.Is(err, notification.ErrPermanent):
		e.attempts--
		e.returned = true
		return
	case e.attempts >= set.MaxAttempts || errors.Is(err, notification.ErrPermanent):
		g.dead = append(g.dead, &notification.DeadLetter{
			ID: s.last.next(time.Now()).String(), Message: &e.message, Attempts: e.attempts, Error: err.Error(), Time: time.Now(),
		})
		g.dead = g.dead[max(0, len(g.dead)-set.DeadLetters):]
	default:
		pause := set.FirstPause
		for i := 1; i < e.attempts && pause < set.LongestPause; i++ {
			pause *= 2
		}
		e.due = time.Now().Add(min(pause, set.LongestPause))
		return
	}
	g.events = slices.DeleteFunc(g.events, func(other *groupEvent) bool { return other == e })
}

// DeadLetters iterates over the events that a group of notification.Consume has given up, oldest first.
func (s *NotificationSystem) DeadLetters(ctx context.Context, name string) iter.Seq2[*notification.DeadLetter, error] {
	return func(yield func(*notification.DeadLetter, error) bool) {
		s.mu.Lock()
		var letters []*notification.DeadLetter
		if g := s.groups[name]; g != nil {
			letters = slices.Clone(g.dead)
		}
		s.mu.Unlock()
		for _, letter := range letters {
			if ctx.Err() != nil {
				yield(nil, context.Cause(ctx))
				return
			}
			if !yield(letter, nil) {
				return
			}
		}
	}
}
