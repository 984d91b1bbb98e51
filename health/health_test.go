package health_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/health"
)

func TestNoChecksIsHealthy(t *testing.T) {
	t.Parallel()
	report := health.New().Run(t.Context())
	assert.Equal(t, health.OK, report.Status)
	assert.NotNil(t, report.Checks, "an empty list, not null, in JSON")
	require.NoError(t, report.Err())
}

func TestRunSelectsKindsAndJoinsErrors(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	h := health.New(
		health.Check{Name: "b", Kind: health.Readiness, Func: func(context.Context) error { return boom }},
		health.Check{Name: "a", Kind: health.Liveness, Func: ok},
		health.Check{Name: "c", Func: ok},
	)
	names := func(kinds ...health.Kind) (got []string) {
		for _, c := range h.Run(t.Context(), kinds...).Checks {
			got = append(got, fmt.Sprintf("%s %s %s", c.Name, c.Kind, c.Status))
		}
		return got
	}
	assert.Equal(t, []string{"a liveness ok"}, names(health.Liveness))
	assert.Equal(t, []string{"b readiness failing", "c readiness ok"}, names(health.Readiness))
	assert.Equal(t, []string{"a liveness ok", "b readiness failing", "c readiness ok"}, names())

	err := h.Run(t.Context()).Err()
	require.ErrorIs(t, err, boom)
	assert.Equal(t, "health: b: boom", err.Error())
}

// A kind that is misspelt selects nothing, which must not look healthy.
func TestRunOfUnknownKinds(t *testing.T) {
	t.Parallel()
	h := health.New(health.Check{Name: "a", Func: ok})
	for _, kinds := range [][]health.Kind{{"ready"}, {""}, {health.Readiness, "Liveness"}} {
		report := h.Run(t.Context(), kinds...)
		assert.Equal(t, health.Failing, report.Status)
		var wrong *health.CheckError
		require.ErrorAs(t, report.Err(), &wrong)
		assert.Equal(t, "Kind", wrong.Field)
		require.ErrorContains(t, report.Err(), fmt.Sprintf(`%q in a call of Run, must be "readiness" or "liveness"`, kinds[len(kinds)-1]))
	}
}

func TestDuplicateNamesAreNumbered(t *testing.T) {
	t.Parallel()
	h := health.New(
		health.Check{Name: "redis#2", Func: ok},
		health.Check{Name: "redis", Func: ok},
		health.Check{Name: "redis", Func: ok},
		health.Check{Name: "redis", Func: ok},
		health.Check{Name: "redis", Kind: health.Liveness, Func: ok},
	)
	var names []string
	for _, c := range h.Run(t.Context(), health.Readiness).Checks {
		names = append(names, c.Name)
	}
	assert.Equal(t, []string{"redis", "redis#2", "redis#3", "redis#4"}, names)
	assert.Equal(t, "redis", h.Run(t.Context(), health.Liveness).Checks[0].Name, "another kind is another name")
}

func TestChecksRunConcurrentlyEachWithItsTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		heedful := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		h := health.New(
			health.Check{Name: "a", Timeout: 3 * time.Second, Func: heedful},
			health.Check{Name: "b", Timeout: 5 * time.Second, Func: heedful},
			health.Check{Name: "default", Func: heedful},
			health.Check{Name: "quick", Func: ok},
		)
		start := time.Now()
		report := h.Run(t.Context())
		assert.Equal(t, 4500*time.Millisecond, time.Since(start), "as long as the slowest, not as all together")
		latency := map[string]time.Duration{}
		for _, c := range report.Checks {
			latency[c.Name] = c.Latency
		}
		assert.Equal(t, map[string]time.Duration{
			"a": 2700 * time.Millisecond, "b": 4500 * time.Millisecond, "default": 900 * time.Millisecond, "quick": 0,
		}, latency)
		require.ErrorIs(t, report.Checks[0].Err, health.ErrTimeout)
		require.ErrorIs(t, report.Checks[0].Err, context.DeadlineExceeded)
		assert.Contains(t, report.Checks[0].Error, "3s")
	})
}

func TestPanicIsAFailedCheck(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	h := health.New(
		health.Check{Name: "error", Func: func(context.Context) error { panic(cause) }},
		health.Check{Name: "exit", Func: func(context.Context) error { runtime.Goexit(); return nil }},
		health.Check{Name: "text", Func: func(context.Context) error { panic("text") }},
	)
	for range 2 { // it must not stay "under way" either
		report := h.Run(t.Context())
		require.Len(t, report.Checks, 3)
		require.ErrorIs(t, report.Checks[0].Err, cause)
		require.Error(t, report.Checks[1].Err)
		require.NotErrorIs(t, report.Checks[1].Err, health.ErrTimeout)
		var panicked *health.PanicError
		require.ErrorAs(t, report.Checks[2].Err, &panicked)
		assert.Equal(t, "text", panicked.Value)
		assert.Contains(t, string(panicked.Stack), "health_test")
		assert.NotContains(t, report.Checks[2].Error, "goroutine", "the stack is not for the public")
	}
}

// Not parallel: runtime.NumGoroutine counts those of other tests, too.
//
//nolint:paralleltest // it counts goroutines
func TestCheckThatIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		release := make(chan struct{})
		h := health.New(
			health.Check{Name: "deaf", Timeout: 2 * time.Second, Func: func(context.Context) error {
				calls.Add(1)
				<-release
				return nil
			}},
			health.Check{Name: "fine", Func: ok},
		)
		start := time.Now()
		report := h.Run(t.Context())
		assert.Equal(t, 2*time.Second, time.Since(start))
		require.ErrorIs(t, report.Checks[0].Err, health.ErrTimeout)
		assert.Equal(t, health.OK, report.Checks[1].Status)

		time.Sleep(10 * time.Second) // in a bubble: the clock, not the test, waits
		synctest.Wait()
		goroutines := runtime.NumGoroutine()
		start = time.Now()
		for range 100 {
			report = h.Run(t.Context())
		}
		assert.Zero(t, time.Since(start), "a check that hangs is not waited for again")
		require.ErrorIs(t, report.Checks[0].Err, health.ErrHanging)
		assert.Contains(t, report.Checks[0].Error, "12s ago")
		assert.Equal(t, 12*time.Second, report.Checks[0].Latency)
		assert.EqualValues(t, 1, calls.Load(), "nor started again")
		synctest.Wait() // those of the other check have ended
		assert.LessOrEqual(t, runtime.NumGoroutine(), goroutines+10, "100 probes leave nothing behind")

		close(release)
		synctest.Wait()
		report = h.Run(t.Context())
		assert.Equal(t, health.OK, report.Status, "and it recovers")
		assert.EqualValues(t, 2, calls.Load())
	})
}

func TestConcurrentProbesShareARun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		h := health.New(health.Check{Name: "slow", Func: func(ctx context.Context) error {
			calls.Add(1)
			select {
			case <-time.After(500 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}})
		// The first probe starts the run and goes away: the others must not notice.
		first, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			report := h.Run(first)
			assert.ErrorIs(t, report.Checks[0].Err, context.Canceled)
		})
		synctest.Wait()
		for range 50 {
			wg.Go(func() {
				report := h.Run(t.Context())
				assert.Equal(t, health.OK, report.Status, report.Checks[0].Error)
			})
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		assert.EqualValues(t, 1, calls.Load())
		h.Run(t.Context())
		assert.EqualValues(t, 2, calls.Load(), "a finished run is not a cache")
	})
}

type probeKey struct{}

func TestContextCarriesTheValuesOfTheProbe(t *testing.T) {
	t.Parallel()
	h := health.New(health.Check{Name: "a", Func: func(ctx context.Context) error {
		if ctx.Value(probeKey{}) != "x" {
			return errors.New("no value")
		}
		return nil
	}})
	require.NoError(t, h.Run(context.WithValue(t.Context(), probeKey{}, "x")).Err())
}

func TestReportSurvivesJSON(t *testing.T) {
	t.Parallel()
	h := health.New(
		health.Check{Name: "a", Func: func(context.Context) error { return errors.New("boom") }},
		health.Check{Name: "b", Kind: health.Liveness, Func: ok},
	)
	before := h.Run(t.Context())
	before.Checks[0].Latency = 1500 * time.Microsecond
	data, err := json.Marshal(before)
	require.NoError(t, err)
	assert.Contains(t, string(data), `"latency_ms":1.5`)
	var after health.Report
	require.NoError(t, json.Unmarshal(data, &after))
	assert.Equal(t, before.Status, after.Status)
	assert.Equal(t, before.Checks[0].Name, after.Checks[0].Name)
	assert.Equal(t, before.Checks[0].Latency, after.Checks[0].Latency)
	assert.Equal(t, health.OK, after.Checks[1].Status)
	require.EqualError(t, after.Err(), "health: a: boom")
	require.Error(t, json.Unmarshal([]byte(`{"checks":[{"latency_ms":"x"}]}`), &after))
}

func TestErrorTextHidesCredentialsOfURLs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"dial redis://user:s3cret@host:6379: refused":   "dial redis://***@host:6379: refused",
		`parse "rediss://:s3c/r@et@host": invalid`:      `parse "rediss://***@host": invalid`,
		"GET http://host/path?x=1: 500":                 "GET http://host/path?x=1: 500",
		"mail me@example.org":                           "mail me@example.org",
		"amqp://a:s3cret@x failed; pg://b:s3cret@y too": "amqp://***@x failed; pg://***@y too",
	} {
		h := health.New(health.Check{Name: "a", Func: func(context.Context) error { return errors.New(text) }})
		result := h.Run(t.Context()).Checks[0]
		assert.Equal(t, want, result.Error)
		assert.NotContains(t, result.Error, "s3c")
		assert.EqualError(t, result.Err, text, "the error itself is for the program")
	}
}

// A Health that is nil knows of nothing that is well, which is no reason to start again.
func TestNilHealth(t *testing.T) {
	t.Parallel()
	var none *health.Health
	for _, kinds := range [][]health.Kind{nil, {health.Readiness}} {
		require.ErrorContains(t, none.Run(t.Context(), kinds...).Err(), "the *Health is nil; health.New makes one")
	}
	require.NoError(t, none.Run(t.Context(), health.Liveness).Err())
	for path, code := range map[string]int{"/readyz": http.StatusServiceUnavailable, "/livez": http.StatusOK} {
		answer := httptest.NewRecorder()
		none.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
		require.Equal(t, code, answer.Code, path)
	}
}

// pointed is an error that only a pointer which is not nil can name.
type pointed struct{ text string }

func (p *pointed) Error() string { return p.text }

func TestErrorThatPanics(t *testing.T) {
	t.Parallel()
	h := health.New(health.Check{Name: "a", Func: func(context.Context) error {
		var none *pointed
		return none
	}})
	for range 2 {
		report := h.Run(t.Context())
		require.Equal(t, health.Failing, report.Status)
		var panicked *health.PanicError
		require.ErrorAs(t, report.Checks[0].Err, &panicked)
	}
}

func TestRunWithoutAContext(t *testing.T) {
	t.Parallel()
	h := health.New(health.Check{Name: "a", Func: func(ctx context.Context) error { return ctx.Err() }})
	require.Equal(t, health.OK, h.Run(nil).Status) //nolint:staticcheck // that is the question
}
