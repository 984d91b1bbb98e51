package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/compozy/cache/internal/redistest"
)

// batch are the arguments of a process that shares a run.
func batch(run, name string, workflows int, more ...string) []string {
	return append([]string{"-run", run, "-name", name, "-workflows", fmt.Sprint(workflows), "-addr", "127.0.0.1:0"}, more...)
}

func processOf(worker string) string {
	name, _, _ := strings.Cut(worker, "/")
	return name
}

func TestTwoProcessesShareARun(t *testing.T) {
	t.Parallel()
	const workflows = 40
	server := redistest.Start(t)
	rdb := server.Client(t)
	heard := listen(t, rdb, "shared")

	a := launch(t, server.URL(), batch("shared", "a", workflows, "-step", "80ms")...)
	b := launch(t, server.URL(), batch("shared", "b", workflows, "-step", "80ms")...)

	assert.Equal(t, 0, a.wait())
	assert.Equal(t, 0, b.wait())
	workers := requireRanOnce(t, openStore(t, rdb, "shared"), heard, workflows)
	processes := make(map[string]bool)
	for w := range workers {
		processes[processOf(w)] = true
	}
	assert.Equal(t, map[string]bool{"a": true, "b": true}, processes, "both took part")
	for _, p := range []*process{a, b} {
		assert.Contains(t, p.output(), "40 of 40")
		assert.Contains(t, p.output(), "Every workflow ran, once")
	}
}

func TestKilledProcessLeavesItsWorkflowsToTheOther(t *testing.T) {
	t.Parallel()
	const workflows = 24
	server := redistest.Start(t)
	rdb := server.Client(t)
	store := openStore(t, rdb, "killed")
	heard := listen(t, rdb, "killed")

	victim := launch(t, server.URL(), batch("killed", "victim", workflows, "-step", "200ms")...)
	victim.url()
	// It stands still while we look, so what it has begun is what it leaves behind.
	var orphan string
	require.Eventually(t, func() bool {
		victim.signal(syscall.SIGSTOP)
		var err error
		if orphan, err = begunBy(t.Context(), store, "victim", workflows); err == nil && orphan != "" {
			return true
		}
		victim.signal(syscall.SIGCONT)
		return false
	}, patience, 50*time.Millisecond)
	victim.signal(syscall.SIGKILL)
	victim.wait()
	heir := launch(t, server.URL(), batch("killed", "heir", workflows, "-step", "20ms")...)

	assert.Equal(t, 0, heir.wait())
	requireRanOnce(t, store, heard, workflows)
	w, err := store.Load(t.Context(), orphan)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, w.Takeovers, 1)
	assert.Equal(t, "heir", processOf(w.Worker))
}

// A process that stands still until its locks have expired loses its workflows, and what it does when it wakes up
// does not count.
func TestSleepingProcessDoesNotRunAnythingTwice(t *testing.T) {
	t.Parallel()
	const workflows = 12
	server := redistest.Start(t)
	rdb := server.Client(t)
	store := openStore(t, rdb, "asleep")
	heard := listen(t, rdb, "asleep")

	sleeper := launch(t, server.URL(), batch("asleep", "sleeper", workflows, "-step", "150ms")...)
	sleeper.url()
	require.Eventually(t, func() bool {
		sleeper.signal(syscall.SIGSTOP)
		if id, err := begunBy(t.Context(), store, "sleeper", workflows); err == nil && id != "" {
			return true
		}
		sleeper.signal(syscall.SIGCONT)
		return false
	}, patience, 50*time.Millisecond)
	other := launch(t, server.URL(), batch("asleep", "other", workflows, "-step", "20ms")...)
	assert.Equal(t, 0, other.wait())
	sleeper.signal(syscall.SIGCONT)

	assert.Equal(t, 0, sleeper.wait())
	requireRanOnce(t, store, heard, workflows)
}

func TestExitCodeWhenAWorkflowIsLost(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	store := openStore(t, rdb, "lost")
	p := launch(t, server.URL(), batch("lost", "p", 8, "-workers", "2")...)

	var gone string
	require.Eventually(t, func() bool {
		for n := range 8 {
			if w, err := store.Load(t.Context(), store.ID(n+1)); err == nil && w.Status == Waiting {
				gone = w.ID
				return store.states.Delete(t.Context(), store.stateKey(gone)) == nil
			}
		}
		return false
	}, patience, time.Millisecond)

	assert.Equal(t, exitFailed, p.wait())
	assert.Contains(t, p.output(), gone+": lost: its state is not in Redis")
}

func TestExitCodeWhenAWorkflowStopsForGood(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	store := openStore(t, rdb, "stuck")
	// Somebody holds its lock and never lets go.
	require.NoError(t, store.Submit(t.Context(), store.ID(1)))
	hold(t, server, store.Resource(store.ID(1)))

	p := launch(t, server.URL(), batch("stuck", "p", 2, "-patience", "4s", "-step", "1ms")...)

	assert.Equal(t, exitFailed, p.wait())
	assert.Contains(t, p.output(), store.ID(1)+": lost: nobody finished it, it is waiting")
}

func TestExitCodeWhenAWorkflowRanTwice(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	store := openStore(t, rdb, "twice")
	// A fact that no process of this run has put there: a step was done before the run began.
	id := store.ID(2)
	require.NoError(t, store.Note(t.Context(), factDone, "stranger/1", 1, newWorkflow("twice", id, time.Now())))

	p := launch(t, server.URL(), batch("twice", "p", 3, "-step", "1ms")...)

	assert.Equal(t, exitFailed, p.wait())
	assert.Contains(t, p.output(), id+": ran twice: step")
	assert.Contains(t, p.output(), "was done 2 times")
}

func TestExitCodeWhenInterrupted(t *testing.T) {
	t.Parallel()
	p := launch(t, "", batch("interrupted", "p", 500)...)
	require.Eventually(t, func() bool { return strings.Contains(p.output(), "run interrupted: ") }, patience, time.Millisecond)
	// There is a moment yet before Fx has started all.
	p.signal(syscall.SIGINT)
	assert.Equal(t, exitInterrupted, p.wait())
	assert.Contains(t, p.output(), "interrupted before ")
}

func TestExitCodeOfMistakes(t *testing.T) {
	t.Parallel()
	flags := launch(t, "", "-workers", "0", "-failures", "2")
	assert.Equal(t, exitUsage, flags.wait())
	assert.Contains(t, flags.output(), "-workers: 0")
	assert.Contains(t, flags.output(), "-failures: 2")

	mistyped := launch(t, "redis://%", "-addr", "127.0.0.1:0")
	assert.Equal(t, exitUsage, mistyped.wait())

	server := redistest.Start(t, redistest.WithPassword("right"))
	url := strings.Replace(server.URL(), "right", "s3cret-wrong", 1)
	password := launch(t, url, "-addr", "127.0.0.1:0")
	assert.Equal(t, exitFailed, password.wait(), "it can only be known by trying")
	assert.NotContains(t, password.output(), "s3cret")
}

func TestPagesAnswer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p := launch(t, server.URL(), "-addr", "127.0.0.1:0", "-step", "5ms", "-every", "10ms")
	base := p.url()

	eventually(t, base+"/", http.StatusOK, "page.js", "style.css")
	for _, file := range []string{"/page.js", "/stream.js", "/chart.js", "/dom.js", "/style.css"} {
		eventually(t, base+file, http.StatusOK)
	}
	eventually(t, base+"/state.json", http.StatusOK, `"run":"live"`, "-0001", `"locks":`, `"processes":[{"name":`)
	eventually(t, base+"/metrics", http.StatusOK,
		"example_workflows_completed_total ", `cache_client_commands_total{cache="default"`, "go_goroutines ")
	eventually(t, base+"/livez", http.StatusOK, "locks")
	eventually(t, base+"/readyz", http.StatusOK, "workers", "redis")
	eventually(t, base+"/nowhere", http.StatusNotFound)

	server.Kill()
	eventually(t, base+"/readyz", http.StatusServiceUnavailable)
	eventually(t, base+"/livez", http.StatusOK)
	eventually(t, base+"/state.json", http.StatusOK, `"status":"failing"`, "Redis does not answer")
	server.Restart()
	eventually(t, base+"/readyz", http.StatusOK)

	p.signal(syscall.SIGTERM)
	assert.Equal(t, 0, p.wait())
}

// A live run goes on when Redis has come back empty, and the page shows it.
func TestRedisComesBackWithoutItsData(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p := launch(t, server.URL(), "-addr", "127.0.0.1:0", "-step", "100ms", "-every", "50ms", "-workers", "2")
	base := p.url()
	look := func() Picture {
		var picture Picture
		assert.NoError(t, json.Unmarshal([]byte(get(t, base+"/state.json")), &picture))
		return picture
	}
	require.Eventually(t, func() bool { now := look(); return now.Done >= 3 && now.Running > 0 }, patience, 10*time.Millisecond)

	server.Kill()
	server.Restart()

	require.Eventually(t, func() bool { return look().Gaps > 0 }, patience, 10*time.Millisecond)
	before := look()
	assert.Positive(t, before.Lost)
	require.Eventually(t, func() bool { return look().Done >= before.Done+3 }, patience, 10*time.Millisecond)
	after := look()
	// One that was cut off while it ran is counted until its end is known.
	assert.Eventually(t, func() bool { return look().Running <= 2 }, patience, 10*time.Millisecond, "no more than there are workers")
	assert.Equal(t, before.Repeated, after.Repeated, "the new workflows are not taken for old ones")
	p.signal(syscall.SIGINT)
	assert.Equal(t, 0, p.wait())
}

func TestInterruptedWhileRedisHangs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p := launch(t, server.URL(), "-addr", "127.0.0.1:0", "-step", "1h")
	eventually(t, p.url()+"/state.json", http.StatusOK, `"type":"started"`) // so there are locks and subscriptions
	server.Stop()
	began := time.Now()
	p.signal(syscall.SIGINT)
	p.wait()
	assert.Less(t, time.Since(began), fx.DefaultTimeout/2+time.Second, "half of the time for a stop")
	assert.Contains(t, p.output(), "stopping\n")
}

func TestInterruptedWhileItWaitsForRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Stop()
	p := launch(t, server.URL(), "-addr", "127.0.0.1:0")
	require.Eventually(t, func() bool { return strings.Contains(p.output(), "redis from the environment") }, patience, time.Millisecond)
	began := time.Now()
	p.signal(syscall.SIGINT)
	assert.Equal(t, exitInterrupted, p.wait())
	assert.Less(t, time.Since(began), fx.DefaultTimeout/4)
}

func TestEmbeddedServerByDefault(t *testing.T) {
	t.Parallel()
	p := launch(t, "", "-workflows", "5", "-step", "1ms")
	assert.Equal(t, 0, p.wait())
	assert.Contains(t, p.output(), "redis embedded")
	assert.Contains(t, p.output(), "5 of 5")
}

// get returns what stands at an address now.
func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := client.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return string(body)
}

// eventually waits until a page answers with that code and contains all of the words.
func eventually(t *testing.T, url string, code int, words ...string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		resp, err := client.Get(url)
		if !assert.NoError(c, err) {
			return
		}
		body, err := io.ReadAll(resp.Body)
		assert.NoError(c, err)
		assert.NoError(c, resp.Body.Close())
		assert.Equal(c, code, resp.StatusCode, "%s", body)
		for _, w := range words {
			assert.Contains(c, string(body), w)
		}
	}, patience, 20*time.Millisecond, url)
}
