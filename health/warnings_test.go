package health_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/health"
)

// Warnings are in the report, and change nothing else.
func TestWarnings(t *testing.T) {
	t.Parallel()
	warn := func() []string { return []string{"redis://app:hunter2@a:1 may evict", "old"} }
	h := health.New(
		health.Check{Name: "failing", Warnings: warn, Func: func(context.Context) error { return errors.New("down") }},
		health.Check{Name: "plain", Func: ok},
		health.Check{Name: "warned", Warnings: warn, Func: ok},
	)
	report := h.Run(t.Context())
	require.Len(t, report.Checks, 3)
	assert.Empty(t, report.Checks[0].Warnings, "what an earlier run has found")
	assert.Empty(t, report.Checks[1].Warnings)
	assert.Equal(t, health.OK, report.Checks[2].Status)
	assert.Equal(t, []string{"redis://***@a:1 may evict", "old"}, report.Checks[2].Warnings)

	text, err := json.Marshal(report)
	require.NoError(t, err)
	var decoded health.Report
	require.NoError(t, json.Unmarshal(text, &decoded))
	assert.Equal(t, report.Checks[2].Warnings, decoded.Checks[2].Warnings)

	h = health.New(health.Check{Name: "warned", Warnings: warn, Func: ok})
	rec := httptest.NewRecorder()
	h.ReadyzHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	assert.Equal(t, http.StatusOK, rec.Code)
	assert.Contains(t, rec.Body.String(), `"warnings": [`)
}

func TestWarningsThatPanicAreAFailure(t *testing.T) {
	t.Parallel()
	h := health.New(health.Check{Name: "a", Func: ok, Warnings: func() []string { panic("boom") }})
	var panicked *health.PanicError
	require.ErrorAs(t, h.Run(t.Context()).Err(), &panicked)
}
