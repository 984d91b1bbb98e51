package main

import (
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// What comes from Redis may be written by anybody, so the script shows text and never HTML, and the page needs nothing from
// elsewhere. Module browser looks at the page itself.
func TestPageTakesNothingFromElsewhereAndShowsTextOnly(t *testing.T) {
	t.Parallel()
	require.NoError(t, fs.WalkDir(web, "web", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(web, name)
		require.NoError(t, err)
		page := strings.ReplaceAll(string(text), `"http://www.w3.org/2000/svg"`, "") // a name, which nobody loads
		assert.NotRegexp(t, `https?://|[("']//|@import|url\(`, page, name)
		assert.NotRegexp(t, `(inner|outer)HTML|insertAdjacentHTML|document\.write|\beval\b|Function\(|srcdoc`, page, name)
		if path.Ext(name) == ".html" {
			assert.NotRegexp(t, `(?i)<script[^>]*>[^<]|<style|\son\w+=|\sstyle=`, page, "the policy forbids it")
		}
		return nil
	}))
}

// ask sends a request to a program as a browser does.
func ask(t *testing.T, method, url string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := client.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp
}

func TestOnlyTheOwnPagePressesButtons(t *testing.T) {
	t.Parallel()
	p := launch(t, "", "-addr", "127.0.0.1:0", "-helpers", "0", "-step", "5ms")
	base := p.url()
	eventually(t, base+"/state.json", http.StatusOK, `"status":"done"`) // so all has started

	for _, foreign := range [][]string{{"Origin", "http://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}} {
		assert.Equal(t, http.StatusForbidden, ask(t, http.MethodPost, base+"/break/pause", foreign...).StatusCode, foreign)
	}
	assert.Equal(t, http.StatusNotFound, ask(t, http.MethodGet, base+"/break/pause").StatusCode, "a link presses nothing")
	assert.NotContains(t, get(t, base+"/state.json"), "Redis is paused")

	assert.Equal(t, http.StatusOK, ask(t, http.MethodPost, base+"/break/pause", "Origin", base, "Sec-Fetch-Site", "same-origin").StatusCode)
	eventually(t, base+"/state.json", http.StatusOK, "Redis is paused")
	assert.Contains(t, ask(t, http.MethodGet, base+"/").Header.Get("Content-Security-Policy"), "default-src 'none'")

	// While Redis is away, an end in order takes as long as ever.
	p.signal(syscall.SIGINT)
	assert.Equal(t, 0, p.wait())
}

func TestRedisOfOthersIsLeftAlone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p := launch(t, server.URL(), "-addr", "127.0.0.1:0", "-step", "5ms", "-every", "20ms")
	base := p.url()

	eventually(t, base+"/state.json", http.StatusOK, `"database"`, "on one that others may use", "-0060") // all customers came by
	assert.NotContains(t, get(t, base+"/state.json"), `"flush"`)
	for _, what := range []string{"pause", "drop", "flush", "burst", "kill", "nonsense"} {
		assert.Equal(t, http.StatusNotFound, ask(t, http.MethodPost, base+"/break/"+what).StatusCode, what)
	}
	assert.Equal(t, http.StatusOK, ask(t, http.MethodPost, base+"/break/database").StatusCode)
	eventually(t, base+"/state.json", http.StatusOK, "The database of the customers fails", "marks it as stale")
}

// A killed helper's workflows are finished by others, and another helper comes.
func TestHelperIsKilledAndReplaced(t *testing.T) {
	t.Parallel()
	p := launch(t, "", "-addr", "127.0.0.1:0", "-workers", "2", "-every", "50ms", "-step", "100ms")
	base := p.url()
	eventually(t, base+"/state.json", http.StatusOK, `"owner":"helper-1/`)

	assert.Equal(t, http.StatusOK, ask(t, http.MethodPost, base+"/break/kill").StatusCode)
	eventually(t, base+"/state.json", http.StatusOK,
		"Process helper-1 was killed", "Process helper-1 has fallen silent", "goes on with", "Process helper-2 joins")

	p.signal(syscall.SIGTERM)
	assert.Equal(t, 0, p.wait(), "and helper-2 with it")
}

// An outage is one thing in the log, however many calls fail meanwhile.
func TestLogSaysAnOutageOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p := launch(t, server.URL(), "-addr", "127.0.0.1:0", "-step", "5ms", "-every", "10ms")
	base := p.url()
	eventually(t, base+"/state.json", http.StatusOK, `"status":"done"`)

	before := failedCalls(t, base)
	server.Kill()
	require.Eventually(t, func() bool { return failedCalls(t, base) > before+50 }, patience, 50*time.Millisecond)
	server.Restart()
	require.Eventually(t, func() bool { return strings.Contains(p.output(), "redis works again") }, patience, 10*time.Millisecond)

	assert.Equal(t, 1, strings.Count(p.output(), "redis fails, trying again"))
	assert.NotContains(t, p.output(), "no new workflow\n")
	assert.Less(t, strings.Count(p.output(), "  warn  "), 20, p.output())
}

// failedCommand is the number of failed calls of one command in what a program exports.
var failedCommand = regexp.MustCompile(`(?m)^cache_client_commands_total\{.*status="(?:error|timeout)".*\} (\d+)$`)

// failedCalls returns how many calls to Redis have failed.
func failedCalls(t *testing.T, base string) (failed int) {
	t.Helper()
	for _, found := range failedCommand.FindAllStringSubmatch(get(t, base+"/metrics"), -1) {
		count, err := strconv.Atoi(found[1])
		require.NoError(t, err)
		failed += count
	}
	return failed
}
