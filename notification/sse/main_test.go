package sse_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
	"github.com/compozy/cache/notification/sse"
)

func TestMain(m *testing.M) { redistest.VerifyTestMain(m) }

// patience is how long a test waits for what should take milliseconds, on a busy machine.
const patience = 20 * time.Second

type numbered struct {
	N int `json:"n"`
}

// newSystem returns a system that is closed when the test ends.
func newSystem(tb testing.TB, client redis.UniversalClient, opts ...notification.Option) *notification.RedisNotificationSystem {
	tb.Helper()
	n, err := notification.NewRedisNotificationSystem(client, append([]notification.Option{notification.WithPingTimeout(5 * time.Second)}, opts...)...)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = n.Close() })
	return n
}

// to subscribes every request to one channel or glob.
func to(pattern string) func(*http.Request) (string, error) {
	return func(*http.Request) (string, error) { return pattern, nil }
}

// observed is a handler that tells when a request ends.
type observed struct {
	http.Handler
	ended chan struct{}
}

func observe(h http.Handler) *observed { return &observed{Handler: h, ended: make(chan struct{}, 100)} }

func (o *observed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() { o.ended <- struct{}{} }()
	o.Handler.ServeHTTP(w, r)
}

func (o *observed) end(tb testing.TB) {
	tb.Helper()
	select {
	case <-o.ended:
	case <-time.After(patience):
		require.FailNow(tb, "the request goes on")
	}
}

// serve returns the URL of a server that is closed when the test ends.
func serve(tb testing.TB, h http.Handler, change ...func(*httptest.Server)) *httptest.Server {
	tb.Helper()
	server := httptest.NewUnstartedServer(h)
	for _, f := range change {
		f(server)
	}
	if server.EnableHTTP2 {
		server.StartTLS()
	} else {
		server.Start()
	}
	tb.Cleanup(server.Close)
	return server
}

// event is what a page gets to see. Comments have the name ":"; a frame without data has no name.
type event struct{ id, name, data string }

// page reads a stream as the standard tells EventSource to.
type page struct {
	response *http.Response
	events   chan event // closed at the end of the stream
	leave    func()
}

// open connects, and waits for the header. The page leaves at the latest when the test ends.
func open(tb testing.TB, url, lastEventID string) *page {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	require.NoError(tb, err)
	if lastEventID != "" {
		request.Header.Set("Last-Event-ID", lastEventID)
	}
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // a test server's certificate
	response, err := transport.RoundTrip(request)
	if err != nil {
		cancel()
	}
	require.NoError(tb, err)
	p := &page{response: response, events: make(chan event, 10_000)}
	done := make(chan struct{})
	p.leave = func() {
		cancel()
		<-done
		transport.CloseIdleConnections()
	}
	tb.Cleanup(p.leave)
	go func() {
		defer close(done)
		defer close(p.events)
		defer response.Body.Close()
		p.read()
	}()
	return p
}

// read takes a line break to be LF alone: what a test sends in a value must never reach the reader as another one.
func (p *page) read() {
	lines := bufio.NewReader(p.response.Body)
	var e event
	var data []string
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\n")
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			e.data = strings.Join(data, "\n")
			p.events <- e
			e, data = event{}, nil
		case field == "":
			e.name = ":"
		case field == "id":
			e.id = value
		case field == "event":
			e.name = value
		case field == "data":
			data = append(data, value)
		default:
			e.name += "broken frame: " + line
		}
	}
}

// next returns what comes next, and false at the end of the stream.
func (p *page) next(tb testing.TB) (event, bool) {
	tb.Helper()
	select {
	case e, ok := <-p.events:
		return e, ok
	case <-time.After(patience):
		require.FailNow(tb, "nothing was sent")
		return event{}, false
	}
}

// expect returns what comes next, which must have the name.
func (p *page) expect(tb testing.TB, name string) event {
	tb.Helper()
	e, ok := p.next(tb)
	require.True(tb, ok, "the stream has ended")
	require.Equal(tb, name, e.name, "%+v", e)
	return e
}

// started reads what a stream without Last-Event-ID begins with.
func (p *page) started(tb testing.TB) *page {
	tb.Helper()
	require.Equal(tb, http.StatusOK, p.response.StatusCode)
	assert.Equal(tb, event{id: "start"}, p.expect(tb, ""))
	return p
}

// ended asserts that nothing follows.
func (p *page) ended(tb testing.TB) {
	tb.Helper()
	e, ok := p.next(tb)
	require.False(tb, ok, "%+v", e)
}

func publish(tb testing.TB, n *notification.RedisNotificationSystem, channel string, numbers ...int) {
	tb.Helper()
	for _, i := range numbers {
		require.NoError(tb, n.Publish(tb.Context(), channel, numbered{i}))
	}
}

// number returns what publish has published.
func number(tb testing.TB, e event) int {
	tb.Helper()
	v, err := notification.Decode[numbered](&notification.Message{Payload: e.data})
	require.NoError(tb, err, "%+v", e)
	return v.N
}

var _ sse.System = (*notification.RedisNotificationSystem)(nil)
