package embedded_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// raw is a connection on which a test sees every byte.
type raw struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func newRaw(t *testing.T, conn net.Conn) *raw {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	t.Cleanup(func() { _ = conn.Close() })
	return &raw{t: t, conn: conn, r: bufio.NewReader(conn)}
}

func (c *raw) send(args ...string) {
	c.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	_, err := c.conn.Write([]byte(b.String()))
	require.NoError(c.t, err)
}

// reply reads one reply or push and shows it on one line, kind included.
func (c *raw) reply() string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	require.NoError(c.t, err)
	line = strings.TrimRight(line, "\r\n")
	n, _ := strconv.Atoi(line[1:])
	switch line[0] {
	case '$':
		if n < 0 {
			return "nil"
		}
		data := make([]byte, n+2)
		_, err := io.ReadFull(c.r, data)
		require.NoError(c.t, err)
		return fmt.Sprintf("%q", data[:n])
	case '*', '>', '%':
		if line[0] == '%' {
			n *= 2
		}
		parts := make([]string, max(n, 0))
		for i := range parts {
			parts[i] = c.reply()
		}
		return fmt.Sprintf("%c%v", line[0], parts)
	case '_':
		return "nil"
	case '-':
		return "error"
	}
	return line
}

// scenario is played on a real server and on ours; both must answer the same.
// Each step is sent on connection "sub" or "pub"; then replies are read until
// "sub" has been seen to answer the PING that follows.
var scenario = []struct {
	on   string
	args string
}{
	{"pub", "PUBLISH nobody x"},
	{"sub", "SUBSCRIBE a b"},
	{"sub", "SUBSCRIBE a"},
	{"sub", "PSUBSCRIBE w:*"},
	{"pub", "PUBLISH a 1"},
	{"pub", "PUBLISH w:1 2"},
	{"sub", "PSUBSCRIBE w:? w:[0-9]"},
	{"pub", "PUBLISH w:1 three-patterns"},
	{"pub", "PUBLISH w:12 one-pattern"},
	{"sub", "SUBSCRIBE w:1"},
	{"pub", "PUBLISH w:1 channel-first"},
	{"sub", "PSUBSCRIBE [z-a]x"},
	{"pub", "PUBLISH bx reversed-range"},
	{"pub", "PUBSUB CHANNELS [a-a]"},
	{"pub", "PUBSUB CHANNELS w*"},
	{"pub", "PUBSUB NUMSUB a b c"},
	{"pub", "PUBSUB NUMPAT"},
	{"pub", "PUBSUB NONSENSE"},
	{"sub", "PUNSUBSCRIBE w:[0-9] w:?"},
	{"pub", "MULTI"},
	{"pub", "PUBLISH w:1 in-a-transaction"},
	{"pub", "PUBLISH w:2 second"},
	{"pub", "EXEC"},
	{"pub", "MULTI"},
	{"pub", "PUBLISH w:1 discarded"},
	{"pub", "DISCARD"},
	{"pub", "PUBLISH a too many arguments"},
	{"pub", "EVAL @3 0"},
	{"pub", "EVAL @SUBSCRIBE 0"},
	{"sub", "SUBSCRIBE"},
	{"sub", "UNSUBSCRIBE a"},
	{"pub", "PUBLISH a gone"},
	{"sub", "UNSUBSCRIBE never-subscribed"},
	{"sub", "UNSUBSCRIBE b w:1"},
	{"sub", "PUNSUBSCRIBE [z-a]x"},
	{"pub", "PUBSUB CHANNELS"},
	{"sub", "PUNSUBSCRIBE"},
	{"sub", "UNSUBSCRIBE"},
	{"pub", "PUBLISH w:1 gone"},
	{"sub", "GET key"},
	{"sub", "SUBSCRIBE again"},
	{"pub", "PUBLISH again back"},
}

var scripts = map[string]string{
	"@3":         "return {redis.call('PUBLISH', 'w:1', 'x'), redis.call('PUBLISH', 'a', 'y'), redis.call('PUBLISH', 'w:2', 'z')}",
	"@SUBSCRIBE": "return redis.call('SUBSCRIBE', 'x')",
}

func play(t *testing.T, protocol string, dial func() net.Conn) []string {
	t.Helper()
	conns := map[string]*raw{"sub": newRaw(t, dial()), "pub": newRaw(t, dial())}
	for _, c := range conns {
		c.send("HELLO", protocol)
		c.reply()
	}
	var transcript []string
	for i, step := range scenario {
		args := strings.Fields(step.args)
		for j, a := range args {
			if s, ok := scripts[a]; ok {
				args[j] = s
			}
		}
		c := conns[step.on]
		c.send(args...)
		if step.on == "pub" {
			transcript = append(transcript, step.args+" -> "+c.reply())
		}
		// Everything that is on its way to the subscriber comes before this.
		marker := fmt.Sprint("marker", i)
		conns["sub"].send("PING", marker)
		var pushes []string
		for {
			reply := conns["sub"].reply()
			if strings.Contains(reply, marker) {
				pushes = append(pushes, reply)
				break
			}
			pushes = append(pushes, reply)
		}
		// Redis sends to several patterns of a connection in an order of its own.
		patterns := slices.IndexFunc(pushes, func(s string) bool { return strings.Contains(s, "pmessage") })
		if patterns >= 0 && strings.Count(step.args, "EXEC")+strings.Count(step.args, "EVAL") == 0 {
			slices.Sort(pushes[patterns : len(pushes)-1])
		}
		transcript = append(transcript, fmt.Sprintf("%d %s %s: %v", i, step.on, step.args, pushes))
	}
	return transcript
}

func TestPubSubBehavesLikeRedis(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"2", "3"} {
		t.Run("RESP"+protocol, func(t *testing.T) {
			t.Parallel()
			reference := redistest.Start(t)
			want := play(t, protocol, func() net.Conn {
				conn, err := net.Dial("tcp", reference.Addr())
				require.NoError(t, err)
				return conn
			})
			_, server := setup(t)
			got := play(t, protocol, func() net.Conn {
				conn, err := server.Dial(t.Context(), "", "")
				require.NoError(t, err)
				return conn
			})
			assert.Equal(t, want, got)
		})
	}
}

// Two publishers, one of which sends its copies in a script: copies stay
// together on every connection, and the order of each publisher is kept.
func TestScriptsPublishTogetherAndInOrder(t *testing.T) {
	t.Parallel()
	client, _ := setup(t)
	ctx := t.Context()
	sub := client.Subscribe(ctx, "exact")
	defer func() { assert.NoError(t, sub.Close()) }()
	require.NoError(t, sub.PSubscribe(ctx, "p:*"))
	for range 2 {
		_, err := sub.Receive(ctx)
		require.NoError(t, err)
	}
	const rounds = 500
	done := make(chan error, 2)
	scripts := make(chan struct{}) // closed when they are done
	script := redis.NewScript("redis.call('PUBLISH', 'exact', ARGV[1]) for i = 1, 1000 do end redis.call('PUBLISH', 'p:1', ARGV[1]) redis.call('PUBLISH', 'exact', ARGV[1])")
	go func() {
		var err error
		for i := 0; i < rounds && err == nil; i++ {
			if err = script.Run(ctx, client, nil, i).Err(); err == redis.Nil { //nolint:errorlint // go-redis returns it bare
				err = nil
			}
		}
		close(scripts)
		done <- err
	}()
	go func() {
		var err error
		for i := 0; err == nil; i++ { // as long as the scripts run
			select {
			case <-scripts:
				done <- err
				return
			default:
				err = client.Publish(ctx, "p:2", i).Err()
			}
		}
		done <- err
	}()
	var scripted, plain int
	for scripted < 3*rounds {
		message, err := sub.ReceiveMessage(ctx)
		require.NoError(t, err)
		if message.Channel == "p:2" {
			require.Zero(t, scripted%3, "a message came between those of a script")
			require.Equal(t, strconv.Itoa(plain), message.Payload)
			plain++
			continue
		}
		require.Equal(t, strconv.Itoa(scripted/3), message.Payload)
		scripted++
	}
	require.NoError(t, <-done)
	require.NoError(t, <-done)
}

// A subscriber that never reads must not stop the server, by whatever way it is
// connected.
func TestStuckSubscriberStopsNobody(t *testing.T) {
	t.Parallel()
	client, server := setup(t)
	require.NoError(t, server.Start(t.Context()))
	inMemory, err := server.Dial(t.Context(), "", "")
	require.NoError(t, err)
	byTCP, err := net.Dial("tcp", server.Addr())
	require.NoError(t, err)
	for _, conn := range []net.Conn{inMemory, byTCP} {
		c := newRaw(t, conn)
		c.send("SUBSCRIBE", "c")
		c.reply()
	}
	payload := strings.Repeat("x", 1<<20)
	for range 20 {
		receivers, err := client.Publish(t.Context(), "c", payload).Result()
		require.NoError(t, err)
		require.EqualValues(t, 2, receivers)
	}
	// Beyond the limit the connection is closed, and the memory free again.
	require.Eventually(t, func() bool {
		return client.Publish(t.Context(), "c", payload).Val() == 0
	}, 30*time.Second, time.Millisecond)
}

func TestManySubscribersOneServer(t *testing.T) {
	t.Parallel()
	client, _ := setup(t)
	ctx := t.Context()
	for i := range 50 {
		sub := client.PSubscribe(ctx, fmt.Sprint("p", i, ":*"), "all:*")
		t.Cleanup(func() { assert.NoError(t, sub.Close()) })
		for range 2 {
			_, err := sub.Receive(ctx)
			require.NoError(t, err)
		}
	}
	assert.EqualValues(t, 50, client.Publish(ctx, "all:x", "").Val())
	assert.EqualValues(t, 1, client.Publish(ctx, "p7:x", "").Val())
	assert.EqualValues(t, 51, client.PubSubNumPat(ctx).Val())
}

func TestCloseDoesNotWaitForAStuckClient(t *testing.T) {
	t.Parallel()
	client, server := setup(t)
	require.NoError(t, server.Start(t.Context()))
	conn, err := net.Dial("tcp", server.Addr())
	require.NoError(t, err)
	c := newRaw(t, conn)
	c.send("SUBSCRIBE", "c")
	c.reply()
	payload := strings.Repeat("x", 1<<20)
	for range 20 { // more than the kernel buffers
		require.NoError(t, client.Publish(t.Context(), "c", payload).Err())
	}
	closed := make(chan error, 1)
	go func() { closed <- server.Close() }()
	select {
	case err := <-closed:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("Close hangs")
	}
}

// TestScriptsSeeSubscribers: notifications ask so whether they have come to the right server.
func TestScriptsSeeSubscribers(t *testing.T) {
	t.Parallel()
	client, _ := setup(t)
	sub := client.Subscribe(t.Context(), "a")
	t.Cleanup(func() { _ = sub.Close() })
	_, err := sub.Receive(t.Context())
	require.NoError(t, err)
	reply, err := client.Eval(t.Context(), "return redis.call('PUBSUB', 'NUMSUB', 'a', 'b')", nil).Result()
	require.NoError(t, err)
	require.Equal(t, []any{"a", int64(1), "b", int64(0)}, reply)
}
