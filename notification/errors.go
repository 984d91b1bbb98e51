package notification

import (
	"errors"
	"fmt"

	"github.com/compozy/cache/internal/arguments"
)

var (
	// ErrClosed is returned by every call on a system that was closed, and is what Err reports for the
	// subscriptions that the system closed.
	ErrClosed = errors.New("notification: system closed")
	// ErrInvalidArgument matches every *ArgumentError.
	ErrInvalidArgument = arguments.ErrInvalid
	// ErrSlowSubscriber is what Err reports for a subscription that PolicyDisconnect closed.
	ErrSlowSubscriber = errors.New("notification: subscriber too slow")
	// ErrNotLive is returned by HealthCheck while subscriptions exist but the connection they share does not deliver.
	ErrNotLive = errors.New("notification: subscriptions are not live")
	// ErrNoHistory is returned where the journal is needed but history is switched off.
	ErrNoHistory = errors.New("notification: history is switched off")
)

// ArgumentError says which argument of a call was refused, and why. Nothing was sent to Redis. It matches
// ErrInvalidArgument. All packages of this module share it.
type ArgumentError = arguments.Error

// PublishError says that an event could not be published.
type PublishError struct {
	Channel string // first channel of the event
	Index   int    // position of the event in the arguments of PublishBatch; 0 for all other methods
	// Uncertain is set when the event may have been published all the same: the reply was lost and could not
	// be asked for again, or the context ended first. It may even be under way still, and arrive behind events that
	// are published later. Publishing the value once more would then be a second event. It is also set when Redis
	// refused another channel than the first, as for lack of permission: Err then begins with PARTIAL and what Redis
	// said, and the event is in the journal and on the channels before that one. It is
	// not set if nothing can have been sent: Redis could not be dialled, the client had no connection to spare, or is
	// closed or not started.
	Uncertain bool
	Err       error
}

func (e *PublishError) Error() string {
	if e.Uncertain {
		return fmt.Sprintf("notification: publish to %q has an unknown outcome: %v", e.Channel, e.Err)
	}
	return fmt.Sprintf("notification: publish to %q: %v", e.Channel, e.Err)
}

// Unwrap returns the error of Redis, of the network or of the context, or one that matches both of the latter.
func (e *PublishError) Unwrap() error { return e.Err }

// GapError ends a replay behind whose last message events may be missing: no further message could tell.
type GapError struct{ Gap Gap }

func (e *GapError) Error() string {
	if e.Gap.After == "" {
		return fmt.Sprintf("notification: events may be missing: %s", e.Gap.Reason)
	}
	return fmt.Sprintf("notification: events may be missing after %s: %s", e.Gap.After, e.Gap.Reason)
}

// DecodeError says that the payload of a message is not what Decode was asked for.
type DecodeError struct {
	Channel string // channel the message was published to
	EventID string // event ID of the message, empty if it has none
	Err     error  // what encoding/json said
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("notification: decode message from %q: %v", e.Channel, e.Err)
}

// Unwrap returns the error of encoding/json.
func (e *DecodeError) Unwrap() error { return e.Err }
