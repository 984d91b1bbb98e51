package metricsdoc

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/compozy/cache/internal/readme"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPageIsUpToDate(t *testing.T) {
	t.Parallel()
	table, err := Table()
	require.NoError(t, err)
	require.NoError(t, readme.Check("../../docs/metrics.md", Mark, table))
}

// The package comments list the metrics, too.
func TestPackageCommentsListEveryMetric(t *testing.T) {
	t.Parallel()
	table, err := Table()
	require.NoError(t, err)
	var docs strings.Builder
	for _, p := range []string{"client", "lock", "notification", "store"} {
		text, err := os.ReadFile("../../" + p + "/doc.go")
		require.NoError(t, err)
		docs.Write(text)
	}
	for _, row := range strings.Split(table, "\n")[2:] {
		if name, _, ok := strings.Cut(strings.TrimPrefix(row, "| `"), "`"); ok {
			assert.NotZero(t, strings.Count(docs.String(), name), name)
		}
	}
}
