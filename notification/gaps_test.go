package notification

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestGapsMerge(t *testing.T) {
	t.Parallel()
	merged := Gap{Reason: GapFailover, After: "1-0", Missed: 1}.merge(Gap{Reason: GapOverflow, After: "2-0", Before: "3-0", Missed: 2})
	assert.Equal(t, Gap{Reason: GapFailover, After: "1-0", Before: "3-0", Missed: 3}, merged)
	for _, tc := range []struct{ earlier, later, want GapReason }{
		{GapWiped, GapForeign, GapWiped},
		{GapForeign, GapWiped, GapWiped},
		{GapForeign, GapOverflow, GapForeign},
		{GapOverflow, GapForeign, GapForeign},
		{GapFailover, GapTrimmed, GapTrimmed},
	} {
		assert.Equal(t, tc.want, Gap{Reason: tc.earlier}.merge(Gap{Reason: tc.later}).Reason, "%s, %s", tc.earlier, tc.later)
	}
}

func TestPatternsThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	for pattern, valid := range map[string]bool{
		"a": true, "a*": true, "[ab]": true, `\*`: true, `[\]]`: true, "a]": true, "[]": true, "[^a]*": true,
		"": false, "[": false, "a[b": false, `\`: false, `[\]`: false, `a\`: false,
	} {
		assert.Equal(t, valid, validatePattern(pattern) == nil, pattern)
	}
	assert.True(t, slices.ContainsFunc([]string{"*", "?", "[", `\`}, isGlob))
}
