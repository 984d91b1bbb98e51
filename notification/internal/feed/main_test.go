package feed_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification/internal/feed"
)

func TestMain(m *testing.M) { redistest.VerifyTestMain(m) }

const (
	// patience is how long a test waits for what should take milliseconds, on a busy machine.
	patience = 30 * time.Second

	key      = "cache:{notification}:journal"
	otherKey = "cache:{notification}:state"
	channel  = "cache:{notification}:heartbeat:test:"
)

// recorder is a sink that writes down what it is called with, one line each:
//
//	up 1            confirmed 1 a       refused 1 a NOPERM …
//	down 1 …        message 1 a @k text  beat 1 5 …
//
// The first number is that of the session. Globs have a "*" in front of them.
type recorder struct {
	mu      sync.Mutex
	lines   []string
	session *feed.Session
	changed chan struct{}
	hold    chan struct{} // while it is not nil, Message waits for it to be closed
	calls   int           // under way
	overlap bool          // two were at once
}

var _ feed.Sink = (*recorder)(nil)

func spelled(n feed.Name) string {
	if n.Glob {
		return "*" + n.Text
	}
	return n.Text
}

func (r *recorder) note(s *feed.Session, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	verb, rest, _ := strings.Cut(fmt.Sprintf(format, args...), " ")
	r.lines = append(r.lines, strings.TrimSpace(fmt.Sprintf("%s %d %s", verb, s.Number, rest)))
	r.session = s
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) Up(s *feed.Session)                     { r.note(s, "up") }
func (r *recorder) Down(s *feed.Session, err error)        { r.note(s, "down %v", err) }
func (r *recorder) Confirmed(s *feed.Session, n feed.Name) { r.note(s, "confirmed %s", spelled(n)) }
func (r *recorder) Beat(s *feed.Session, payload string)   { r.note(s, "beat %q", payload) }
func (r *recorder) Refused(s *feed.Session, n feed.Name, err error) {
	r.note(s, "refused %s %v", spelled(n), err)
}

func (r *recorder) Message(s *feed.Session, n feed.Name, channel, payload string) {
	r.mu.Lock()
	r.calls++
	r.overlap = r.overlap || r.calls > 1
	hold := r.hold
	r.mu.Unlock()
	if len(payload) > 100 {
		payload = strconv.Itoa(len(payload)) + " bytes"
	}
	r.note(s, "message %s @%s %s", spelled(n), channel, payload)
	if hold != nil {
		<-hold
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls--
}

// block makes the sink wait with the next message until release is called.
func (r *recorder) block() (release func()) {
	hold := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = hold
	return sync.OnceFunc(func() {
		r.mu.Lock()
		r.hold = nil
		r.mu.Unlock()
		close(hold)
	})
}

// all returns the lines that begin with a prefix.
func (r *recorder) all(prefix string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []string
	for _, line := range r.lines {
		if strings.HasPrefix(line, prefix) {
			found = append(found, line)
		}
	}
	return found
}

func (r *recorder) count(prefix string) int { return len(r.all(prefix)) }

// wait waits until n lines begin with a prefix, and returns the last one.
func (r *recorder) wait(t *testing.T, n int, prefix string) string {
	t.Helper()
	deadline := time.After(patience)
	for looked, found := 0, 0; ; {
		r.mu.Lock()
		changed, lines := r.changed, r.lines
		r.mu.Unlock()
		for ; looked < len(lines); looked++ {
			if strings.HasPrefix(lines[looked], prefix) {
				if found++; found == n {
					return lines[looked]
				}
			}
		}
		select {
		case <-changed:
		case <-deadline:
			require.FailNow(t, "not called", "%d times %q but %d times, at last: %.2000q", n, prefix, found, lines[max(0, len(lines)-20):])
		}
	}
}

// current returns the session of the last call.
func (r *recorder) current() *feed.Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.session
}

// bundle is what a test needs beside the feed.
type bundle struct {
	*recorder
	logs *observer.ObservedLogs
}

// start returns a feed that is closed when the test ends. adjust may change its settings.
func start(t *testing.T, client redis.UniversalClient, adjust func(*feed.Settings), names ...feed.Name) (*feed.Feed, *bundle) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	b := &bundle{recorder: &recorder{changed: make(chan struct{})}, logs: logs}
	set := feed.Settings{
		Client: client, Key: key, Channel: channel, Heartbeat: time.Second, Linger: 10 * time.Millisecond,
		MaxPause: 100 * time.Millisecond, Logger: zap.New(core),
	}
	if adjust != nil {
		adjust(&set)
	}
	f := feed.New(set, b)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, f.Close(ctx))
	})
	f.Add(names...)
	f.Start()
	return f, b
}

// names makes channels.
func names(texts ...string) []feed.Name {
	var all []feed.Name
	for _, text := range texts {
		all = append(all, feed.Name{Text: text})
	}
	return all
}

func glob(text string) feed.Name { return feed.Name{Text: text, Glob: true} }

// through returns a client that reaches the server by a proxy.
func through(t *testing.T, server *redistest.Server) (*redis.Client, *faultproxy.Proxy) {
	t.Helper()
	proxy := faultproxy.New(t, server.Addr())
	options := server.Options()
	options.Addr = proxy.Addr()
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client, proxy
}

// listeners returns how many connections have subscribed, beside those of sentinels.
func listeners(t *testing.T, server *redistest.Server) int {
	t.Helper()
	list, err := server.Client(t).Do(t.Context(), "client", "list", "type", "pubsub").Text()
	require.NoError(t, err)
	ours := 0
	for line := range strings.Lines(list) {
		if !strings.Contains(line, " name=sentinel-") {
			ours++
		}
	}
	return ours
}
