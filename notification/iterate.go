package notification

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"strings"
	"time"

	"github.com/compozy/cache/internal/glob"
	"github.com/compozy/cache/notification/internal/feed"
	"github.com/compozy/cache/notification/internal/journal"
)

// Replay iterates over the events of the journal that match a channel or glob, oldest first, from one event ID to
// another, both included. An empty from means the beginning, an empty to the end at the moment it is reached. It
// reads in batches as the loop goes on; nothing has to be closed.
//
// An error is the last thing it yields, with a nil message: an *ArgumentError, ErrNoHistory, ErrClosed, the cause
// of ctx, an error of Redis, or a *GapError. If the journal does not reach back to from, or is trimmed while it is
// being read, the next message carries a Gap with the reason GapTrimmed; if no message follows, the iteration ends
// with a *GapError. Each iterator may be used once, or again from the start; different ones concurrently.
func (n *RedisNotificationSystem) Replay(ctx context.Context, pattern, from, to string) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		w, err := n.newWalk(ctx, pattern, from, to)
		for err == nil {
			var messages []*Message
			messages, err = w.step(ctx)
			for _, m := range messages {
				if !yield(m, nil) {
					return
				}
			}
			if w.finished && w.gap == nil {
				return
			}
			if w.finished {
				err = &GapError{Gap: *w.gap}
			}
		}
		yield(nil, err)
	}
}

// walk is the state of one iteration.
type walk struct {
	system   *RedisNotificationSystem
	name     feed.Name
	at, end  journal.Position
	reader   *journal.Reader
	included bool // the event at the position itself belongs to the result
	gap      *Gap // for the next message
	lastID   string
	finished bool
	attempts int // in a row that have failed
}

// maxAttempts is how often a part is asked for that does not arrive, before the error is the caller's.
const maxAttempts = 10

func (n *RedisNotificationSystem) newWalk(ctx context.Context, pattern, from, to string) (*walk, error) {
	if err := n.admit(ctx); err != nil {
		return nil, err
	}
	if err := validatePattern(pattern); err != nil {
		return nil, err
	}
	if n.set.history == 0 {
		return nil, ErrNoHistory
	}
	first, err := positionOf("from", from, journal.Position{})
	if err != nil {
		return nil, err
	}
	last, err := positionOf("to", to, journal.End())
	if err != nil {
		return nil, err
	}
	return &walk{
		system: n, name: feed.Name{Text: pattern, Glob: isGlob(pattern)}, at: first, end: last, included: true,
		reader: n.journal.NewReader(n.set.deadline()),
	}, nil
}

// positionOf returns the position of the event ID that an argument holds, or the one that stands for an empty ID.
func positionOf(argument, id string, empty journal.Position) (journal.Position, error) {
	if id == "" {
		return empty, nil
	}
	pos, ok := journal.ParsePosition(id)
	if !ok {
		return pos, &ArgumentError{Argument: argument, Reason: fmt.Sprintf("is %q, which is no event ID", id)}
	}
	return pos, nil
}

// step reads one part and returns the messages in it.
func (w *walk) step(ctx context.Context) ([]*Message, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if w.system.closed() {
		return nil, ErrClosed
	}
	read := w.reader.After
	if w.included {
		read = w.reader.From
	}
	part, err := read(ctx, journal.Server{Client: w.system.client}, w.at)
	if err != nil {
		return nil, w.failed(ctx, err)
	}
	w.attempts = 0
	if !w.at.IsZero() && !w.follows(&part) {
		w.gap = &Gap{Reason: GapTrimmed, After: w.lastID, Time: time.Now()}
	}
	var messages []*Message
	for i := range part.Entries {
		e := &part.Entries[i]
		if w.end.Less(e.Pos) {
			w.finished = true
			return messages, nil
		}
		w.at, w.included = e.Pos, false
		if channel, ok := w.matches(e); ok {
			messages = append(messages, w.message(e, channel))
		}
	}
	w.finished = !part.More
	return messages, nil
}

// follows reports whether nothing is missing in front of a part: the event it is to begin with neither.
func (w *walk) follows(p *journal.Part) bool {
	if w.included {
		return len(p.Entries) > 0 && p.Entries[0].Pos == w.at
	}
	return p.Follows(w.at)
}

// failed returns nil if another attempt, at fewer events, may succeed.
func (w *walk) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var timeout net.Error
	if w.attempts++; w.attempts > maxAttempts || !errors.As(err, &timeout) || !timeout.Timeout() ||
		errors.Is(err, journal.ErrUnreadable) {
		return err
	}
	return nil
}

// matches returns the first channel of an event that the name stands for.
func (w *walk) matches(e *journal.Entry) (channel string, ok bool) {
	for _, channel := range e.Channels {
		channel, ours := strings.CutPrefix(channel, w.system.set.channelPrefix)
		if ours && (channel == w.name.Text && !w.name.Glob || w.name.Glob && glob.Match(w.name.Text, channel)) {
			return channel, true
		}
	}
	return "", false
}

func (w *walk) message(e *journal.Entry, channel string) *Message {
	m := newMessage(w.name, channel, e.Payload(), &e.Envelope)
	m.Recovered = true
	if w.gap != nil {
		w.gap.Before = e.ID
		m.Gap, w.gap = w.gap, nil
	}
	w.lastID = e.ID
	return m
}
