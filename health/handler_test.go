package health_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/health"
)

// request asks a real server: it, not the handler, decides what HEAD sends.
func request(t *testing.T, method, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp, string(body)
}

func TestHandlerPathsAndCodes(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	h := health.New(
		health.Check{Name: "redis", Kind: health.Readiness, Func: func(context.Context) error {
			if down.Load() {
				return errors.New("connection refused")
			}
			return nil
		}},
		health.Check{Name: "pump", Kind: health.Liveness, Func: ok},
	)
	server := httptest.NewServer(h.Handler())
	t.Cleanup(server.Close)

	expect := func(path string, code int, names ...string) {
		t.Helper()
		resp, body := request(t, http.MethodGet, server.URL+path)
		assert.Equal(t, code, resp.StatusCode, path)
		assert.Equal(t, "application/json; charset=utf-8", resp.Header.Get("Content-Type"))
		assert.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
		var report health.Report
		require.NoError(t, json.Unmarshal([]byte(body), &report))
		assert.Equal(t, code == http.StatusOK, report.Status == health.OK)
		var got []string
		for _, c := range report.Checks {
			got = append(got, c.Name)
		}
		assert.Equal(t, names, got, path)

		head, empty := request(t, http.MethodHead, server.URL+path)
		assert.Equal(t, code, head.StatusCode)
		assert.Equal(t, "no-store", head.Header.Get("Cache-Control"))
		assert.Positive(t, head.ContentLength)
		assert.Empty(t, empty)
	}
	expect("/livez", 200, "pump")
	expect("/readyz", 200, "redis")
	expect("/healthz", 200, "pump", "redis")
	down.Store(true)
	expect("/livez", 200, "pump")
	expect("/readyz", 503, "redis")
	expect("/healthz", 503, "pump", "redis")
	down.Store(false)
	expect("/readyz", 200, "redis")

	resp, _ := request(t, http.MethodGet, server.URL+"/other")
	assert.Equal(t, 404, resp.StatusCode)
}

func TestHandlersWorkAlone(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	h := health.New(health.Check{Name: "a", Func: func(context.Context) error { runs.Add(1); return nil }})
	for _, handler := range []http.Handler{h.LivezHandler(), h.ReadyzHandler(), h.HealthzHandler()} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
			rec := httptest.NewRecorder()
			handler.ServeHTTP(rec, httptest.NewRequest(method, "/any/path", http.NoBody))
			assert.Equal(t, 405, rec.Code)
			assert.Equal(t, "GET, HEAD", rec.Header().Get("Allow"))
			assert.Equal(t, "no-store", rec.Header().Get("Cache-Control"))
		}
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, httptest.NewRequest(http.MethodHead, "/any/path", http.NoBody))
		assert.Equal(t, 200, rec.Code)
		assert.Zero(t, rec.Body.Len())
	}
	assert.EqualValues(t, 2, runs.Load(), "livez does not run it, a refused method runs nothing")
}
