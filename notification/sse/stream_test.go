package sse_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/fxtest"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
	"github.com/compozy/cache/notification/sse"
)

const tick = time.Millisecond

func TestHeader(t *testing.T) {
	t.Parallel()
	p := open(t, serve(t, sse.Handler(fxtest.NewNotificationSystem(), to("k"))).URL, "").started(t)
	assert.Equal(t, "text/event-stream", p.response.Header.Get("Content-Type"))
	assert.Equal(t, "no-cache", p.response.Header.Get("Cache-Control"))
	assert.Equal(t, "no", p.response.Header.Get("X-Accel-Buffering"))
	p.leave()
}

// recorder is a response that a bubble can look at while it is written.
type recorder struct {
	*httptest.ResponseRecorder

	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *recorder) count(s string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.text.String(), s)
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts  []sse.Option
		every time.Duration // 0 for never
	}{
		"default": {every: 15 * time.Second},
		"zero":    {opts: []sse.Option{sse.WithHeartbeat(0)}, every: 15 * time.Second},
		"set":     {opts: []sse.Option{sse.WithHeartbeat(time.Minute)}, every: time.Minute},
		"never":   {opts: []sse.Option{sse.WithHeartbeat(-1)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := fxtest.NewNotificationSystem()
				out := &recorder{ResponseRecorder: httptest.NewRecorder()}
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				go sse.Handler(n, to("k"), test.opts...).
					ServeHTTP(out, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody))
				beats := func() int {
					synctest.Wait()
					return out.count(": heartbeat\n\n")
				}
				if test.every == 0 {
					time.Sleep(24 * time.Hour) // in the bubble
					assert.Zero(t, beats())
					return
				}
				time.Sleep(test.every - tick) // in the bubble
				assert.Zero(t, beats())
				time.Sleep(tick) // in the bubble
				assert.Equal(t, 1, beats())
				// An event is a sign of life too.
				time.Sleep(test.every - tick) // in the bubble
				require.NoError(t, n.Publish(ctx, "k", numbered{1}))
				time.Sleep(test.every - tick) // in the bubble
				assert.Equal(t, 1, beats())
				time.Sleep(tick + test.every) // in the bubble
				assert.Equal(t, 3, beats())
			})
		})
	}
}

// Neither the server's limit for a response nor a deadline that is left behind ends a stream: HTTP/2 counts it against
// silence too.
func TestDeadlinesAreForWritesOnly(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	for name, change := range map[string]func(*httptest.Server){
		"HTTP/1": func(s *httptest.Server) { s.Config.WriteTimeout = limit },
		"HTTP/2": func(s *httptest.Server) { s.EnableHTTP2, s.Config.WriteTimeout = true, limit },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := fxtest.NewNotificationSystem()
			h := sse.Handler(n, to("k"), sse.WithWriteTimeout(limit), sse.WithHeartbeat(3*limit/2))
			p := open(t, serve(t, h, change).URL, "").started(t)
			assert.Equal(t, name, strings.TrimSuffix(strings.TrimSuffix(p.response.Proto, ".1"), ".0"))
			for range 2 {
				p.expect(t, ":")
			}
			require.NoError(t, n.Publish(t.Context(), "k", numbered{1}))
			assert.Equal(t, 1, number(t, p.expect(t, "message")))
			require.NoError(t, n.Close())
			p.expect(t, "close")
			p.ended(t)
		})
	}
}

func TestClientLeaves(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t))
	h := observe(sse.Handler(n, to("k")))
	url := serve(t, h).URL
	var pages []*page
	for range 20 {
		pages = append(pages, open(t, url, "").started(t))
	}
	require.Equal(t, 20, n.GetMetrics().Subscribers)
	for _, p := range pages {
		p.leave()
		h.end(t)
	}
	assert.Zero(t, n.GetMetrics().Subscribers)
}

// A client that does not read is disconnected, and delays nobody meanwhile.
func TestStuckClient(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t), notification.WithBufferSize(4))
	h := observe(sse.Handler(n, to("k"), sse.WithWriteTimeout(2*time.Second), sse.WithHeartbeat(-1)))
	server := serve(t, h, func(s *httptest.Server) {
		s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
			assert.NoError(t, c.(*net.TCPConn).SetWriteBuffer(4096))
			return ctx
		}
	})
	stuck, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer stuck.Close()
	require.NoError(t, stuck.(*net.TCPConn).SetReadBuffer(4096))
	_, err = fmt.Fprintf(stuck, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return n.GetMetrics().Subscribers == 1 }, patience, tick)

	healthy := open(t, server.URL, "").started(t)
	for i := range 50 {
		require.NoError(t, n.Publish(t.Context(), "k", map[string]any{"n": i, "filler": strings.Repeat("x", 100_000)}))
		require.Equal(t, i, number(t, healthy.expect(t, "message")))
	}
	h.end(t)
	require.Eventually(t, func() bool { return n.GetMetrics().Subscribers == 1 }, patience, tick)
}

func TestSystemCloses(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t))
	h := observe(sse.Handler(n, to("k")))
	url := serve(t, h).URL
	p := open(t, url, "").started(t)
	publish(t, n, "k", 1, 2, 3)
	require.Eventually(t, func() bool { return n.GetMetrics().MessagesReceived == 3 }, patience, tick)
	require.NoError(t, n.Close())
	for i := range 3 {
		assert.Equal(t, i+1, number(t, p.expect(t, "message")), "what was published before")
	}
	assert.JSONEq(t, `{"reason":"closed"}`, p.expect(t, "close").data)
	p.ended(t)
	h.end(t)
	assert.Equal(t, http.StatusServiceUnavailable, open(t, url, "").response.StatusCode)
	assert.Equal(t, http.StatusServiceUnavailable, open(t, url, "1-1").response.StatusCode)
}

// A policy that disconnects costs a reconnect, and no event.
func TestSlowSubscriberIsDisconnected(t *testing.T) {
	t.Parallel()
	n := newSystem(t, redistest.Start(t).Client(t), notification.WithBufferSize(1), notification.WithPolicy(notification.PolicyDisconnect))
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	url := serve(t, sse.Handler(n, to("k"), sse.WithEventName(func(*notification.Message) string {
		entered <- struct{}{}
		<-release
		return "any name"
	}))).URL
	p := open(t, url, "").started(t)
	publish(t, n, "k", 1)
	<-entered
	publish(t, n, "k", 2, 3)
	require.Eventually(t, func() bool { return n.GetMetrics().Subscribers == 0 }, patience, tick)
	close(release)
	p.expect(t, "any name")
	second := p.expect(t, "any name")
	assert.Contains(t, p.expect(t, "gap").data, `"overflow"`)
	assert.JSONEq(t, `{"reason":"slow"}`, p.expect(t, "close").data)
	p.ended(t)
	assert.Equal(t, 3, number(t, open(t, url, second.id).expect(t, "any name")))
}
