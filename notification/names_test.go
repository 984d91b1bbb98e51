package notification

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/glob"
	"github.com/compozy/cache/notification/internal/feed"
)

// TestNamesFindWhatMatches compares the index with a look at every name.
func TestNamesFindWhatMatches(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"a", "b", ":", "ab", "*", "?", "[ab]", `\*`, "[^a]", "]", `\\`}
	text := func(of []string) (s string) {
		for range 1 + random.IntN(4) {
			s += of[random.IntN(len(of))]
		}
		return s
	}
	for range 2000 {
		var index names[string]
		all := make(map[feed.Name]bool)
		for range 20 {
			name := feed.Name{Text: text(pieces), Glob: random.IntN(3) > 0}
			if !all[name] {
				all[name] = true
				index.add(name, fmt.Sprint(name))
			}
		}
		channel := text(append(slices.Clone(pieces[:4]), "*", "]", `\`))
		var found, expected []string
		index.match(channel, func(name string) { found = append(found, name) })
		for name := range all {
			if name.Glob && glob.Match(name.Text, channel) || !name.Glob && name.Text == channel {
				expected = append(expected, fmt.Sprint(name))
			}
		}
		require.ElementsMatch(t, expected, found, "%q among %v", channel, all)
	}
}

// BenchmarkNames is one channel among 5,000 globs.
func BenchmarkNames(b *testing.B) {
	for kind, pattern := range map[string]string{"prefixes": "workflow:%d:*", "suffixes": "*:%d", "stars": "*%d*"} {
		b.Run(kind, func(b *testing.B) {
			var index names[int]
			for i := range 5000 {
				index.add(feed.Name{Text: fmt.Sprintf(pattern, i), Glob: true}, i)
			}
			for b.Loop() {
				index.match("workflow:4711:done:4711", func(int) {})
			}
		})
	}
}
