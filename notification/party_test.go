package notification_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/compozy/cache/notification"
)

// partyEnv makes the test binary a process that publishes and listens, as the JSON of a party says.
const partyEnv = "NOTIFICATION_TEST_PARTY"

// party is what such a process is to do.
type party struct {
	By      int // the number of its author
	Place   place
	Pattern string
	After   string // event ID behind which it goes on, empty for one that begins
	Seed    uint64
}

// beParty is that process. It reads commands from its standard input: "publish", and "to <address>" where Redis is from now
// on. It says on its standard output: "ready", once it listens, "message <JSON>" of each that arrives, "sent <first> <last>"
// of numbers that it has published, and "over <last>" when that is done.
func beParty(config string) {
	var mu sync.Mutex
	say := func(words ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(words...)
	}
	var p party
	if err := json.Unmarshal([]byte(config), &p); err != nil {
		say("failed", err)
		return
	}
	client, to := p.Place.client()
	random := rand.New(rand.NewPCG(p.Seed, 0))
	log := zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zapcore.EncoderConfig{
		TimeKey: "t", MessageKey: "m", EncodeTime: zapcore.TimeEncoderOfLayout(time.StampMicro),
	}), os.Stderr, zap.DebugLevel))
	n, err := notification.NewRedisNotificationSystem(client, append(listening(random), historyOf(random), notification.WithLogger(log))...)
	if err != nil {
		say("failed", err)
		return
	}
	var s *notification.Subscription
	if p.After == "" {
		s, _ = n.Subscribe(context.Background(), p.Pattern).(*notification.Subscription)
	} else {
		s = n.SubscribeFrom(context.Background(), p.Pattern, p.After)
	}
	go func() {
		for m := range s.Messages() {
			text, err := json.Marshal(m)
			if err != nil {
				say("failed", err)
			}
			say("message", string(text))
		}
		say("failed", s.Err())
	}()
	say("ready")
	last := 0
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if addr, ok := strings.CutPrefix(lines.Text(), "to "); ok {
			to(addr)
			continue
		}
		go func() { // one after the other: the next is asked for when this is over
			last = publishSome(context.Background(), n, p.By, last, func(first, last int) { say("sent", first, last) })
			say("over", last)
		}()
	}
}

// process is such a process.
type process struct {
	*author
	*recorder

	cmd    *exec.Cmd
	in     io.Writer
	ready  chan struct{}
	passed chan struct{} // gets one for each "over"
	killed atomic.Bool
}

// startParty starts one and returns once it listens. It is killed when the test ends.
func startParty(t *testing.T, a *author, what party) *process {
	t.Helper()
	config, err := json.Marshal(what)
	require.NoError(t, err)
	p := &process{
		author: a, recorder: &recorder{after: what.After, done: make(chan struct{})},
		cmd: exec.Command(os.Args[0], "-test.run=^$"), ready: make(chan struct{}), passed: make(chan struct{}, 1),
	}
	var stderr bytes.Buffer
	p.cmd.Env = append(os.Environ(), partyEnv+"="+string(config))
	p.cmd.Stderr = &stderr
	p.in, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go p.hear(t, out)
	t.Cleanup(func() {
		p.kill()
		<-p.done
		_ = p.cmd.Wait()
		t.Logf("stderr of the process of author %d: %s", what.By, stderr.String())
	})
	select {
	case <-p.ready:
	case <-p.done:
		require.FailNow(t, "the process ended")
	}
	return p
}

// hear notes what the process says, until it ends.
func (p *process) hear(t *testing.T, out io.Reader) {
	t.Helper()
	defer close(p.done)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		var first, last int
		switch word {
		case "ready":
			close(p.ready)
		case "sent":
			_, err := fmt.Sscan(rest, &first, &last)
			assert.NoError(t, err)
			p.published(first, last)
		case "over":
			_, err := fmt.Sscan(rest, &last)
			assert.NoError(t, err)
			p.over(last)
			p.passed <- struct{}{}
		case "message":
			m := new(notification.Message)
			assert.NoError(t, json.Unmarshal([]byte(rest), m))
			p.recorder.mu.Lock()
			p.messages = append(p.messages, m)
			p.recorder.mu.Unlock()
		default:
			assert.Fail(t, "unexpected", lines.Text())
		}
	}
	if !p.killed.Load() {
		assert.Fail(t, "the process ended")
	}
}

// publish lets it publish some events and returns when that is over, or the process has ended.
func (p *process) publish() {
	if _, err := fmt.Fprintln(p.in, "publish"); err != nil {
		return
	}
	select {
	case <-p.passed:
	case <-p.done:
	}
}

// to lets it connect to another address from now on.
func (p *process) to(addr string) { _, _ = fmt.Fprintln(p.in, "to", addr) }

// kill ends it with SIGKILL.
func (p *process) kill() {
	p.killed.Store(true)
	_ = p.cmd.Process.Kill()
}
