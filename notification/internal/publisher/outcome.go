package publisher

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification/internal/journal"
)

// Error says that an event could not be published.
type Error struct {
	Channel   string // its first channel, without the channel prefix
	Index     int    // that of the event
	Uncertain bool   // it may have been published all the same
	Err       error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error of Redis, of the network or of the context, or one that matches both of the latter.
func (e *Error) Unwrap() error { return e.Err }

// settle writes the failures that a script reports, or the error, into the events.
func settle(events []*Event, failures string, err error) {
	for line := range strings.SplitSeq(failures, "\n") {
		if line == "" {
			continue
		}
		index, text, _ := strings.Cut(line, " ")
		i, wrong := strconv.Atoi(index)
		if wrong != nil || i < 0 || i >= len(events) {
			err = fmt.Errorf("%w: failure %q", journal.ErrProtocol, line)
			break
		}
		events[i].err = refusal(text)
	}
	if err != nil {
		for _, e := range events {
			e.err = err
		}
	}
}

// outcome returns the error of an event that was sent, or nil.
func (e *Event) outcome(ctx context.Context) error {
	if e.err == nil {
		return nil
	}
	return e.failed(blame(ctx, e.err), !certain(e.err))
}

func (e *Event) failed(err error, uncertain bool) error {
	return &Error{Channel: e.name, Index: e.Index, Uncertain: uncertain, Err: err}
}

// blame adds to an error why the caller's context has ended, if it has: the error may be that of a connection which was given
// up for that reason. What the server refused for good, it has refused in any case.
func blame(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if deadline, ok := ctx.Deadline(); cause == nil && ok && !time.Now().Before(deadline) {
		cause = context.DeadlineExceeded // the connection knows the deadline too, and may be faster
	}
	if cause == nil || redisx.IsReply(err) && !redisx.IsTransient(err) || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", cause, err)
}

// refusal is an error the server answered inside the reply of a script.
type refusal string

func (e refusal) Error() string { return string(e) }

// RedisError marks it as an answer of the server.
func (refusal) RedisError() {}

// notSentError is that of an event that never was executed and never will be, whatever its error looks like.
type notSentError struct{ error }

func (e notSentError) Unwrap() error { return e.error }

// partialError is how errors of scripts begin that do not say that an event was not published.
const partialError = "PARTIAL "

// certain reports whether an error says that the event was not published: the server said so, or nothing was sent.
func certain(err error) bool {
	if _, annulled := errors.AsType[notSentError](err); annulled || redisx.IsUnsent(err) {
		return true
	}
	return redisx.IsReply(err) && !redis.HasErrorPrefix(err, partialError)
}
