package sse

import (
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache/notification"
)

// Defaults of the options.
const (
	defaultHeartbeat    = 15 * time.Second
	defaultWriteTimeout = 10 * time.Second
)

// Option changes a setting of Handler.
type Option func(*settings)

type settings struct {
	heartbeat    time.Duration
	writeTimeout time.Duration
	eventName    func(*notification.Message) string
	logger       *zap.Logger
}

// WithHeartbeat sets after how much silence a comment is sent, overriding the default of 15s. It keeps proxies from
// closing the connection, and finds clients whose connection broke silently. 0 means the default, -1 (or any negative
// value) sends none.
func WithHeartbeat(interval time.Duration) Option {
	return func(s *settings) { s.heartbeat = interval }
}

// WithWriteTimeout sets how long sending one event may take, overriding the default of 10s. A client that does not read
// for so long is disconnected; it can resume. 0 means the default. With -1 (or any negative value) the handler sets no
// deadlines: a client that is stuck then holds its goroutine until its connection breaks, and http.Server.WriteTimeout,
// if set, cuts every stream.
func WithWriteTimeout(d time.Duration) Option {
	return func(s *settings) { s.writeTimeout = d }
}

// WithEventName sets what the event field of a message is, overriding the default of "message" for all. A page
// listens to other names with addEventListener. The function must be safe for concurrent use and must not change the
// message. A name that has a line break or NUL in it, is empty, or is "gap", "close", "open" or "error", which mean something
// else to a page, becomes "message". Nil means the default.
func WithEventName(name func(*notification.Message) string) Option {
	return func(s *settings) { s.eventName = name }
}

// WithLogger sets where requests that fail on this side are logged. Nil, the default, logs nothing.
func WithLogger(logger *zap.Logger) Option {
	return func(s *settings) { s.logger = logger }
}

// newSettings applies the options, then the defaults. The settings can be used even if there is an error.
func newSettings(opts []Option) (settings, error) {
	var s settings
	var err error
	for _, opt := range opts {
		if opt == nil {
			err = &notification.ArgumentError{Argument: "opts", Reason: "contains nil"}
			continue
		}
		opt(&s)
	}
	if s.heartbeat == 0 {
		s.heartbeat = defaultHeartbeat
	}
	if s.writeTimeout == 0 {
		s.writeTimeout = defaultWriteTimeout
	}
	if s.eventName == nil {
		s.eventName = func(*notification.Message) string { return messageEvent }
	}
	if s.logger == nil {
		s.logger = zap.NewNop()
	}
	return s, err
}
