package cache_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The guide shows the trace that the example prints.
func TestTracingGuideShowsTheExample(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile("tracing_example_test.go")
	require.NoError(t, err)
	guide, err := os.ReadFile("docs/tracing.md")
	require.NoError(t, err)
	_, output, found := strings.Cut(string(example), "// Output:\n")
	require.True(t, found)
	output, _, _ = strings.Cut(output, "\n}\n")
	_, spans, found := strings.Cut(strings.ReplaceAll(output+"\n", "\t// ", ""), "one trace: true\none trace: true\n")
	require.True(t, found)
	assert.Contains(t, string(guide), "```console\n"+spans+"```\n")
}
