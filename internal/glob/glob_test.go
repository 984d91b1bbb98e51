package glob_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/compozy/cache/internal/glob"
	"github.com/compozy/cache/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cases are what people write, and the corners where matchers differ. They seed
// the comparison with a real server below, so the expectations here are what it
// answers.
var cases = []struct {
	pattern, name string
	want          bool
}{
	{"workflow:*", "workflow:1", true},
	{"workflow:*", "workflow:", true},
	{"workflow:*", "task:1", false},
	{"*", "a/b\x00c", true},
	{"*", "", false},
	{"", "", true},
	{"", "a", false},
	{"a*b*c", "a-b-b-c", true},
	{"a*b*c", "a-b-b-", false},
	{"**", "a", true},
	{"a**", "a", true},
	{"?", "é", false}, // bytes, not letters
	{"??", "é", true},
	{"[ab]x", "bx", true},
	{"[^ab]x", "bx", false},
	{"[^ab]x", "cx", true},
	{"[!a]", "!", true},
	{"[a-c]", "b", true},
	{"[c-a]", "b", true},
	{"[a-]", "^", true},
	{"[a-]", "-", false},
	{"[0-\xff]", "1", false}, // bytes have a sign
	{"[0-\xff]", "\xff", true},
	{"[]", "]", false},
	{"[^]", "x", true},
	{"[", "[", false},
	{"[^", "x", true},
	{"[ab", "b", true},
	{"[ab", "bc", false},
	{`[\]]`, "]", true},
	{`[\`, `\`, true},
	{`\*`, "*", true},
	{`\*`, "x", false},
	{`a\`, `a\`, true},
	{`\\`, `\`, true},
	{"*[", "x", false},
	{"*a*?", "aa", true},
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, c := range cases {
		assert.Equal(t, c.want, glob.Match(c.pattern, c.name), "%q %q", c.pattern, c.name)
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"", "a*", "[a]", "[[]", "a]", `\[`, `[\]]`, `\\`} {
		assert.True(t, glob.Complete(pattern), "%q", pattern)
	}
	for _, pattern := range []string{"[", "a[b", `[\]`, `a\`, `[a]\`, "[a][b"} {
		assert.False(t, glob.Complete(pattern), "%q", pattern)
	}
}

func TestManyStarsStayCheap(t *testing.T) {
	t.Parallel()
	start := time.Now()
	assert.False(t, glob.Match(strings.Repeat("a*", 5_000)+"b", strings.Repeat("a", 10_000)))
	assert.Less(t, time.Since(start), 30*time.Second, "a backtracking matcher would need ages")
}

// FuzzMatch asks a real server. PUBLISH answers with the number of subscribers
// that match, which is exactly the question.
func FuzzMatch(f *testing.F) {
	for _, c := range cases {
		f.Add(c.pattern, c.name)
	}
	client := redistest.Start(f).Client(f)
	f.Fuzz(func(t *testing.T, pattern, name string) {
		ctx := t.Context()
		sub := client.PSubscribe(ctx, pattern)
		defer func() { _ = sub.Close() }()
		_, err := sub.Receive(ctx)
		require.NoError(t, err)
		receivers, err := client.Publish(ctx, name, "").Result()
		require.NoError(t, err)
		assert.Equal(t, receivers > 0, glob.Match(pattern, name), "%q %q", pattern, name)
	})
}
