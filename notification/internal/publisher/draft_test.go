package publisher

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/arguments"
)

func TestDraftIsWhatMarshalReturns(t *testing.T) {
	t.Parallel()
	var all drafts
	for _, v := range []any{
		map[string]string{"long": strings.Repeat("<&>\u2028", 100)},
		map[string]any{"short": nil},
		struct{}{},
		json.RawMessage("{ \"a\":\n1 }"),
	} {
		want, err := json.Marshal(v)
		require.NoError(t, err)
		d, err := all.of(v, "v")
		require.NoError(t, err)
		assert.Equal(t, string(want), string(d.object))
		all.release(d)
	}
}

func TestDraftIsUsableAfterAnError(t *testing.T) {
	t.Parallel()
	var all drafts
	for range 10 {
		for _, wrong := range []any{math.NaN(), nil, []int{1}, "{}", json.RawMessage("{")} {
			_, err := all.of(wrong, "v")
			var argument *arguments.Error
			require.ErrorAs(t, err, &argument)
		}
		d, err := all.of(map[string]int{"a": 1}, "v")
		require.NoError(t, err)
		assert.Equal(t, `{"a":1}`, string(d.object))
		all.release(d)
	}
}

func TestLargeDraftIsNotKept(t *testing.T) {
	t.Parallel()
	var all drafts
	d, err := all.of(map[string]string{"a": strings.Repeat("x", maxDraft)}, "v")
	require.NoError(t, err)
	all.release(d)
	again, err := all.of(struct{}{}, "v")
	require.NoError(t, err)
	assert.NotSame(t, d, again)
}
