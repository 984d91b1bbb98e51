package sse_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/fxtest"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
	"github.com/compozy/cache/notification/sse"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	secret := errors.New("hunter2")
	system := fxtest.NewNotificationSystem()
	closed := fxtest.NewNotificationSystem()
	require.NoError(t, closed.Close())
	fails := func(err error) func(*http.Request) (string, error) {
		return func(*http.Request) (string, error) { return "k", err }
	}
	for name, test := range map[string]struct {
		method  string
		handler func(...sse.Option) http.Handler
		status  int
		body    string
		logs    string // part of the one line; none if empty
	}{
		"POST": {
			method:  http.MethodPost,
			handler: func(o ...sse.Option) http.Handler { return sse.Handler(system, to("k"), o...) },
			status:  http.StatusMethodNotAllowed, body: "Method Not Allowed",
		},
		"HEAD": {
			method:  http.MethodHead,
			handler: func(o ...sse.Option) http.Handler { return sse.Handler(system, to("k"), o...) },
			status:  http.StatusMethodNotAllowed, body: "Method Not Allowed",
		},
		"4xx": {
			handler: func(o ...sse.Option) http.Handler {
				return sse.Handler(system, fails(fmt.Errorf("wrapped: %w", &sse.StatusError{Status: 403, Err: secret})), o...)
			},
			status: http.StatusForbidden, body: "Forbidden",
		},
		"4xx with a message": {
			handler: func(o ...sse.Option) http.Handler {
				return sse.Handler(system, fails(&sse.StatusError{Status: 404, Message: "no such workflow"}), o...)
			},
			status: http.StatusNotFound, body: "no such workflow",
		},
		"5xx": {
			handler: func(o ...sse.Option) http.Handler {
				return sse.Handler(system, fails(&sse.StatusError{Status: 502, Err: secret}), o...)
			},
			status: http.StatusBadGateway, body: "Bad Gateway", logs: "502",
		},
		"no status of an error": {
			handler: func(o ...sse.Option) http.Handler {
				return sse.Handler(system, fails(&sse.StatusError{Status: 200}), o...)
			},
			status: http.StatusInternalServerError, body: "Internal Server Error", logs: "200",
		},
		"any error": {
			handler: func(o ...sse.Option) http.Handler { return sse.Handler(system, fails(secret), o...) },
			status:  http.StatusInternalServerError, body: "Internal Server Error", logs: "hunter2",
		},
		"bad pattern": {
			handler: func(o ...sse.Option) http.Handler { return sse.Handler(system, to("["), o...) },
			status:  http.StatusInternalServerError, body: "Internal Server Error", logs: "pattern has an unclosed class",
		},
		"closed system": {
			handler: func(o ...sse.Option) http.Handler { return sse.Handler(closed, to("k"), o...) },
			status:  http.StatusServiceUnavailable, body: "Service Unavailable", logs: "closed",
		},
		"nil system": {
			handler: func(o ...sse.Option) http.Handler {
				return sse.Handler((*notification.RedisNotificationSystem)(nil), to("k"), o...)
			},
			status: http.StatusInternalServerError, body: "Internal Server Error", logs: "system is nil",
		},
		"nil function": {
			handler: func(o ...sse.Option) http.Handler { return sse.Handler(system, nil, o...) },
			status:  http.StatusInternalServerError, body: "Internal Server Error", logs: "pattern is nil",
		},
		"nil option": {
			handler: func(o ...sse.Option) http.Handler { return sse.Handler(system, to("k"), append(o, nil)...) },
			status:  http.StatusInternalServerError, body: "Internal Server Error", logs: "opts contains nil",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			core, logs := observer.New(zap.DebugLevel)
			w := httptest.NewRecorder()
			method := test.method
			if method == "" {
				method = http.MethodGet
			}
			test.handler(sse.WithLogger(zap.New(core))).ServeHTTP(w, httptest.NewRequest(method, "/", http.NoBody))
			assert.Equal(t, test.status, w.Code)
			assert.Equal(t, test.body+"\n", w.Body.String())
			assert.NotEqual(t, "text/event-stream", w.Header().Get("Content-Type"))
			if test.logs == "" {
				assert.Zero(t, logs.Len())
				return
			}
			require.Equal(t, 1, logs.Len())
			assert.Contains(t, fmt.Sprint(logs.All()[0].ContextMap()), test.logs)
		})
	}
}

// bare is a response that can only be written; middlewares that hide the Flusher look like it.
type bare struct{ w *httptest.ResponseRecorder }

func (b bare) Header() http.Header         { return b.w.Header() }
func (b bare) WriteHeader(status int)      { b.w.WriteHeader(status) }
func (b bare) Write(p []byte) (int, error) { return b.w.Write(p) }

// wrapped is a middleware's response that says what it wraps.
type wrapped struct{ bare }

func (w wrapped) Unwrap() http.ResponseWriter { return w.w }

func TestFlusher(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	request := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
	asked := false
	h := sse.Handler(fxtest.NewNotificationSystem(), func(*http.Request) (string, error) {
		asked = true
		cancel()
		return "k", nil
	})
	w := httptest.NewRecorder()
	h.ServeHTTP(bare{w}, request)
	assert.Equal(t, http.StatusInternalServerError, w.Code)
	assert.False(t, asked, "before anything is done")
	w = httptest.NewRecorder()
	h.ServeHTTP(wrapped{bare{w}}, request)
	assert.True(t, asked)
	assert.Equal(t, http.StatusServiceUnavailable, w.Code, "the client has gone meanwhile")
}

// Redis does not let its user listen to the channel.
func TestPermission(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "default", "resetchannels", "&cache:*", "&allowed").Err())
	core, logs := observer.New(zap.WarnLevel)
	n := newSystem(t, server.Client(t))
	p := open(t, serve(t, sse.Handler(n, to("k"), sse.WithLogger(zap.New(core)))).URL, "")
	assert.Equal(t, http.StatusInternalServerError, p.response.StatusCode)
	assert.Equal(t, 1, logs.Len())

	p = open(t, serve(t, sse.Handler(n, to("allowed"))).URL, "").started(t)
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "default", "resetchannels", "&cache:*").Err())
	assert.JSONEq(t, `{"reason":"failed"}`, p.expect(t, "close").data)
	p.ended(t)
}

func TestStatusError(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	err := &sse.StatusError{Status: 404, Message: "none", Err: cause}
	require.EqualError(t, err, "sse: refused with status 404: none: cause")
	require.ErrorIs(t, err, cause)
	require.EqualError(t, &sse.StatusError{Status: 404}, "sse: refused with status 404")
}

// A browser that leaves while Redis hangs is nobody's fault here.
func TestClientsThatLeaveAreNotLogged(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := newSystem(t, server.Client(t))
	server.Stop()
	t.Cleanup(server.Continue)
	core, logs := observer.New(zap.DebugLevel)
	o := observe(sse.Handler(n, to("k"), sse.WithLogger(zap.New(core))))
	web := serve(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, web.URL, http.NoBody)
		if err == nil {
			var response *http.Response
			if response, err = http.DefaultClient.Do(r); err == nil {
				err = response.Body.Close()
			}
		}
		left <- err
	}()
	require.Eventually(t, func() bool { return n.GetMetrics().Subscribers == 1 }, patience, time.Millisecond)
	cancel()
	require.Error(t, <-left)
	o.end(t)
	assert.Empty(t, logs.All())
	http.DefaultClient.CloseIdleConnections()
}
