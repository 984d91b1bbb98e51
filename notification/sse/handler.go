package sse

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/internal/arguments"
	"github.com/compozy/cache/notification"
)

// System is what Handler needs of a notification.NotificationSystem. One that also has the SubscribeFrom of
// *notification.RedisNotificationSystem lets clients resume; with any other they get a gap when they come back.
type System interface {
	Subscribe(ctx context.Context, pattern string) notification.Subscriber
}

// resumer is a System whose subscriptions can begin in the past.
type resumer interface {
	SubscribeFrom(ctx context.Context, pattern, eventID string) *notification.Subscription
}

var (
	_ System  = notification.NotificationSystem(nil)
	_ resumer = (*notification.RedisNotificationSystem)(nil)
)

// startID is what a client has received that has received no event yet. No event has this ID.
const startID = "start"

// Handler returns a handler that streams the events of one channel or glob to each client, as the package documentation
// says. The function is called once for each request, concurrently, and returns what to subscribe to; it refuses a request
// with a *StatusError. What cannot be used (a nil system, a nil function, a nil option) is an *notification.ArgumentError
// in the log and status 500 for every request. Safe for concurrent use.
func Handler(system System, pattern func(*http.Request) (pattern string, err error), opts ...Option) http.Handler {
	set, err := newSettings(opts)
	switch {
	case arguments.IsNil(system):
		err = &notification.ArgumentError{Argument: "system", Reason: "is nil"}
	case pattern == nil:
		err = &notification.ArgumentError{Argument: "pattern", Reason: "is nil"}
	}
	return &handler{system: system, pattern: pattern, set: set, unusable: err}
}

type handler struct {
	system   System
	pattern  func(*http.Request) (string, error)
	set      settings
	unusable error // what was wrong with the arguments of Handler
}

// ServeHTTP serves one client until it leaves.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		h.refuse(w, r, &StatusError{Status: http.StatusMethodNotAllowed})
		return
	}
	if err := cmp.Or(h.unusable, flushes(w)); err != nil {
		h.refuse(w, r, err)
		return
	}
	pattern, err := h.pattern(r)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	begun := h.subscribe(r.Context(), pattern, lastEventID(r))
	defer func() { _ = begun.subscriber.Close() }()
	if err := errorOf(begun.subscriber); err != nil {
		if errors.Is(err, notification.ErrClosed) || r.Context().Err() != nil {
			err = &StatusError{Status: http.StatusServiceUnavailable, Err: err}
		}
		h.refuse(w, r, err)
		return
	}
	// An error of the stream means that the client has gone or is stuck. Either way there is nobody to tell.
	_ = h.stream(w, begun).serve(r.Context())
}

// refuse answers a request without a stream, and logs what is not the client's fault. One that has gone hears nothing any more.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, message := response(err)
	if status >= http.StatusInternalServerError && r.Context().Err() == nil {
		h.set.logger.Warn("notification: event stream refused", zap.Int("status", status), zap.Error(err))
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, message, status)
}

// beginning is a subscription and what to send before its first message.
type beginning struct {
	subscriber notification.Subscriber
	id         string           // for a client that has none yet
	gap        notification.Gap // no gap if it has no reason
}

// subscribe begins behind the event that the client had last, or says in the beginning why that cannot be.
func (h *handler) subscribe(ctx context.Context, pattern, last string) beginning {
	if last == "" {
		return beginning{subscriber: h.system.Subscribe(ctx, pattern), id: startID}
	}
	reason := notification.GapReconnected
	if from, ok := h.system.(resumer); ok && last != startID {
		s := from.SubscribeFrom(ctx, pattern, last)
		err := s.Err()
		switch {
		case isUnknownID(err):
			// The ID may be of another system, that was here before. A page cannot recover from a refusal.
			reason = notification.GapTrimmed
		case !errors.Is(err, notification.ErrNoHistory):
			return beginning{subscriber: s}
		}
	}
	return beginning{subscriber: h.system.Subscribe(ctx, pattern), gap: notification.Gap{Reason: reason}}
}

// isUnknownID reports whether SubscribeFrom refused an ID.
func isUnknownID(err error) bool {
	var argument *notification.ArgumentError
	return errors.As(err, &argument) && argument.Argument == "eventID"
}

// lastEventID returns the ID a client wants to resume from. The header is what it received last, the query where it began.
func lastEventID(r *http.Request) string {
	return cmp.Or(r.Header.Get("Last-Event-ID"), r.URL.Query().Get("lastEventId"))
}

// errorOf returns why a subscription was closed or refused, if it says so.
func errorOf(s notification.Subscriber) error {
	if s, ok := s.(interface{ Err() error }); ok {
		return s.Err()
	}
	return nil
}

var errNoFlusher = errors.New("sse: the http.ResponseWriter, or a middleware around it, cannot flush")

// flushes returns an error if http.ResponseController could not flush the writer. To try would write the header.
func flushes(w http.ResponseWriter) error {
	for {
		switch t := w.(type) {
		case interface{ FlushError() error }, http.Flusher:
			return nil
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return errNoFlusher
		}
	}
}

// stream prepares the stream to one client. Nothing is written yet.
func (h *handler) stream(w http.ResponseWriter, b beginning) *stream {
	s := &stream{
		out:       &writer{w: w, control: http.NewResponseController(w), timeout: h.set.writeTimeout},
		beginning: b, eventName: h.set.eventName, heartbeat: h.set.heartbeat, logger: h.set.logger,
	}
	if subscription, ok := b.subscriber.(interface {
		Gaps() <-chan notification.Gap
	}); ok {
		s.gaps = subscription.Gaps()
	}
	if s.out.timeout > 0 && errors.Is(s.out.limit(time.Now().Add(s.out.timeout)), http.ErrNotSupported) {
		h.set.logger.Warn("notification: event stream without write deadlines, which the http.ResponseWriter does not support")
		s.out.timeout = -1
	}
	return s
}
