package group

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification/internal/journal"
)

const (
	// quiet is how long a leader pauses after a part of the journal that has nothing for the group, so that the events of
	// others cost fifty reads a second at most, however many there are.
	quiet = 20 * time.Millisecond
	// readPatience is for how long an event in the journal is asked for alone before it counts as unreadable.
	readPatience = 10 * time.Second
	// feedEvents and feedBytes are how much the group is given at once, unless one event has more. The server does nothing else
	// meanwhile: that is some milliseconds.
	feedEvents, feedBytes = 500, 1 << 20
)

// Unreadable is the reason for a gap where an event does not arrive, however often it is asked for.
const Unreadable journal.Reason = "unreadable"

// isFull reports whether a group that holds so much may have to hold more than it may once it is fed again.
func isFull(held, bytes int64) bool {
	return held > maxHeld-feedEvents || bytes > maxHeldBytes-feedBytes
}

// step moves a part of the journal to the group, or waits for one until the next round.
func (l *leader) step(ctx context.Context) (leads bool, err error) {
	left := max(time.Until(l.next), time.Millisecond)
	if l.full {
		_ = redisx.Sleep(ctx, left) // what the members do not get to stays in the journal
		return true, nil
	}
	part, err := l.reader.After(ctx, l.server, l.at.cursor.Pos)
	if errors.Is(err, journal.ErrUnreadable) {
		return true, l.skip(ctx)
	}
	if err == nil && len(part.Entries) == 0 {
		err = l.await(ctx, left)
	}
	if err != nil {
		return l.again(ctx, err)
	}
	l.failures = 0
	l.failing.Over(l.set.Log, "notification: the journal is read for the group again", zap.String("group", l.set.Group))
	if len(part.Entries) == 0 {
		return true, nil
	}
	if part.Epoch != l.at.epoch || !part.Follows(l.at.cursor.Pos) {
		if !l.doubtful {
			l.doubtful = true
			return l.round(ctx)
		}
		if l.at.cursor.Pos.Ms == 0 { // where the journal began when it was compared; it has lost more since
			l.tell(ctx, journal.Trimmed, "", 0)
		}
	}
	return l.give(ctx, part.Entries, left)
}

// give gives the group what it wants of some entries, until it is full.
func (l *leader) give(ctx context.Context, entries []journal.Entry, left time.Duration) (leads bool, err error) {
	l.doubtful = false
	for len(entries) > 0 {
		events, taken := l.matching(entries)
		last := &entries[taken-1]
		entries = entries[taken:]
		l.at.cursor = journal.Envelope{ID: last.ID, Pos: last.Pos, Stamp: last.Stamp}
		if len(events) == 0 {
			_ = redisx.Sleep(ctx, min(quiet, left))
			continue
		}
		known := l.at.String()
		done, held, bytes, err := l.ops.doFeed(ctx, l.server.Client, l.stored, known, events)
		switch {
		case err != nil:
			return false, err
		case !done:
			return false, errOvertaken
		}
		l.stored = known
		if isFull(held, bytes) {
			l.next = time.Now()
			break
		}
	}
	return true, nil
}

// skip goes on behind an event that cannot be read. Nobody knows whether the group wanted it.
func (l *leader) skip(ctx context.Context) error {
	id, err := l.ops.peek.Run(ctx, l.server.Client.Process, []string{l.set.Journal.Journal}, l.at.cursor.Pos.String())
	if err != nil {
		return err
	}
	pos, ok := position(text(id))
	if !ok {
		return fmt.Errorf("%w: %v instead of an event ID", journal.ErrProtocol, id)
	}
	l.tell(ctx, Unreadable, l.at.cursor.ID, 1)
	l.at.cursor = journal.Envelope{ID: text(id), Pos: pos}
	return nil
}

// matching returns what the group wants of the first entries, as much as it is given at once, and how many entries these are.
func (l *leader) matching(entries []journal.Entry) (events []fed, taken int) {
	bytes := 0
	for i := range entries {
		body, ok := l.set.Body(&entries[i])
		if !ok {
			continue
		}
		if bytes += len(body); len(events) == feedEvents || bytes > feedBytes && len(events) > 0 {
			return events, i
		}
		events = append(events, fed{sortable(entries[i].Pos), body})
	}
	return events, len(entries)
}

// await waits until there is more in the journal.
func (l *leader) await(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit+highPause)
	defer cancel()
	err := l.server.Client.XRead(ctx, &redis.XReadArgs{
		Streams: []string{l.set.Journal.Journal, l.at.cursor.Pos.String()}, Count: 1, Block: limit,
	}).Err()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// again is called when reading failed, and begins with a new connection. An attempt that took too long is not the end of a
// term: the group would forget how far it was read, and the next leader begin where this one did.
func (l *leader) again(ctx context.Context, err error) (leads bool, _ error) {
	if redisx.IsReply(err) || ctx.Err() != nil {
		return false, err
	}
	l.failed(err)
	l.failures++
	l.link.failed(ctx, l.server.Client, err)
	_ = redisx.Sleep(ctx, redisx.Backoff(l.failures, lowPause, highPause))
	return l.round(ctx)
}
