package notification

import (
	"context"
	"fmt"
	"iter"
	"time"
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
	pattern  string
	glob     bool
	at, end  position
	portion  portion
	included bool // the event at the place itself belongs to the result
	gap      *Gap // to be told with the next message
	lastID   string
	finished bool
}

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
	first, err := positionOf("from", from, position{})
	if err != nil {
		return nil, err
	}
	last, err := positionOf("to", to, lastPosition())
	if err != nil {
		return nil, err
	}
	return &walk{
		system: n, pattern: pattern, glob: isGlob(pattern), at: first, end: last, included: true,
		portion: newPortion(replayBatch),
	}, nil
}

// positionOf returns the place of the event ID that an argument holds, or the one that stands for an empty ID.
func positionOf(argument, id string, empty position) (position, error) {
	if id == "" {
		return empty, nil
	}
	pos, ok := parsePosition(id)
	if !ok {
		return position{}, &ArgumentError{Argument: argument, Reason: fmt.Sprintf("is %q, which is no event ID", id)}
	}
	return pos, nil
}

// step reads one batch and returns the messages in it.
func (w *walk) step(ctx context.Context) ([]*Message, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if w.system.closed() {
		return nil, ErrClosed
	}
	part, err := w.system.journal.from(ctx, envelope{pos: w.at}, w.portion.size)
	if err != nil && w.portion.failed(err) {
		return nil, nil // the next step asks for less
	}
	if err != nil {
		return nil, err
	}
	w.portion.arrived()
	if !part.intact {
		w.gap = &Gap{Reason: GapTrimmed, After: w.lastID, Time: time.Now()}
	}
	var messages []*Message
	for i := range part.entries {
		e := &part.entries[i]
		if e.pos == w.at && !w.included {
			continue
		}
		if w.end.less(e.pos) {
			w.finished = true
			return messages, nil
		}
		w.at, w.included = e.pos, false
		if channel, ok := e.match(w.pattern, w.glob); ok {
			messages = append(messages, w.message(e, channel))
		}
	}
	w.finished = !part.more
	return messages, nil
}

func (w *walk) message(e *entry, channel string) *Message {
	m := e.message(channel)
	if w.glob {
		m.Pattern = w.pattern
	}
	if w.gap != nil {
		w.gap.Before = e.id
		m.Gap, w.gap = w.gap, nil
	}
	w.lastID = e.id
	return m
}
