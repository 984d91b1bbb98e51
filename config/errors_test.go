package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A long value is cut between two characters, not within one.
func TestLongValuesAreShortened(t *testing.T) {
	t.Parallel()
	want := `"` + strings.Repeat("ä", maxShown) + `…"`
	for _, before := range []string{"", "a"} {
		err := (&Config{Host: before + strings.Repeat("ä", 300)}).Validate()
		require.Contains(t, badFields(t, err)["Host"].Value, strings.Repeat("ä", maxShown-1)+`…"`)
		require.NotContains(t, err.Error(), `\x`)
	}
	_, err := fromEnv(t, "", map[string]string{"REDIS_POOL_SIZE": strings.Repeat("ä", 300)})
	require.Equal(t, want, badFields(t, err)["PoolSize"].Value)
}
