package notification

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/notification/internal/group"
	"github.com/compozy/cache/notification/internal/journal"
)

// letterBatch is how many dead letters are read at once, at most. Each may be as large as an event.
const letterBatch = 16

// DeadLetter is an event that a group has given up.
type DeadLetter struct {
	ID       string    // in the stream of the group's dead letters
	Message  *Message  // the event, with the channel that the group's pattern matched
	Attempts int       // how often it was handed out
	Error    string    // of the last attempt; its first 1024 bytes, if it is longer
	Time     time.Time // when it was given up, by the server's clock
}

// DeadLetters iterates over the events that a group of Consume has given up, oldest first, until the end at the moment it is
// reached. They stay where they are, in the stream "<key prefix>{notification}:group:<group>:dead", with the channel prefix
// and a colon before "group" if there is one, about as many as WithDeadLetters says. To have one handled once more, publish it again.
//
// An error is the last thing it yields, with a nil letter: an *ArgumentError, ErrClosed, the cause of ctx, or an error of
// Redis. Each iterator may be used once, or again from the start; different ones concurrently.
func (n *RedisNotificationSystem) DeadLetters(ctx context.Context, name string) iter.Seq2[*DeadLetter, error] {
	return func(yield func(*DeadLetter, error) bool) {
		if err := n.admit(ctx); err != nil {
			yield(nil, err)
			return
		}
		if name == "" {
			yield(nil, &ArgumentError{Argument: "group", Reason: "is empty"})
			return
		}
		key := group.DeadKey(n.keys, name)
		for start, count := "-", letterBatch; ; {
			rows, err := n.client.XRangeN(ctx, key, start, "+", int64(count)).Result()
			if journal.TimedOut(err) && ctx.Err() == nil && count > 1 {
				count /= 4 // fewer may arrive in time
				continue
			}
			if err != nil {
				if ctx.Err() != nil {
					err = context.Cause(ctx)
				}
				yield(nil, err)
				return
			}
			for _, row := range rows {
				letter, err := n.deadLetter(row)
				if !yield(letter, err) || err != nil {
					return
				}
				start = "(" + row.ID
			}
			if len(rows) < count {
				return
			}
		}
	}
}

// deadLetter reads an entry of the journal.
func (n *RedisNotificationSystem) deadLetter(row redis.XMessage) (*DeadLetter, error) {
	field := func(name string) string {
		s, _ := row.Values[name].(string)
		return s
	}
	pos, isID := journal.ParsePosition(field("id"))
	at, isTime := journal.ParsePosition(row.ID)
	m, isMessage := n.message(pos.String(), field("event"))
	attempts, err := strconv.Atoi(field("attempts"))
	if !isID || !isTime || !isMessage || err != nil {
		return nil, fmt.Errorf("%w: dead letter %s", journal.ErrProtocol, row.ID)
	}
	return &DeadLetter{
		ID: row.ID, Message: m, Attempts: attempts, Error: field("error"),
		Time: time.UnixMilli(int64(at.Ms)), //nolint:gosec // a time, in milliseconds
	}, nil
}
