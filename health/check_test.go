package health_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/health"
)

func ok(context.Context) error { return nil }

func TestCheckValidate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		field string // at fault, empty if none
		check health.Check
	}{
		{"", health.Check{Name: "a", Func: ok}},
		{"", health.Check{Name: "a", Kind: health.Liveness, Timeout: time.Hour, Func: ok}},
		{"Name", health.Check{Func: ok}},
		{"Kind", health.Check{Name: "a", Kind: "startup", Func: ok}},
		{"Timeout", health.Check{Name: "a", Timeout: -1, Func: ok}},
		{"Func", health.Check{Name: "a"}},
	} {
		err := tc.check.Validate()
		if tc.field == "" {
			require.NoError(t, err)
			continue
		}
		var checkErr *health.CheckError
		require.ErrorAs(t, err, &checkErr)
		assert.Equal(t, tc.field, checkErr.Field)
		assert.Equal(t, tc.check.Name, checkErr.Check)
	}
}

// A mistake in a check must be seen, must not stop the other checks, and must
// not have the process restarted for ever.
func TestInvalidCheckIsFailingReadinessCheck(t *testing.T) {
	t.Parallel()
	h := health.New(
		health.Check{Name: "good", Kind: health.Liveness, Func: ok},
		health.Check{Name: "bad", Kind: health.Liveness},
		health.Check{Func: ok},
	)
	live := h.Run(t.Context(), health.Liveness)
	assert.Equal(t, health.OK, live.Status)
	assert.Len(t, live.Checks, 1)

	ready := h.Run(t.Context(), health.Readiness)
	assert.Equal(t, health.Failing, ready.Status)
	require.Len(t, ready.Checks, 2)
	assert.Equal(t, "bad", ready.Checks[0].Name)
	assert.Equal(t, "unnamed", ready.Checks[1].Name)
	var checkErr *health.CheckError
	require.ErrorAs(t, ready.Err(), &checkErr)
}
