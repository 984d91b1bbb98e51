package wake_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/compozy/cache/store/internal/wake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	t.Parallel()
	m, ok := wake.Parse("filled 0af 17 9 a b {c d}cs1 x\ny")
	require.True(t, ok)
	assert.Equal(t, wake.Message{Word: wake.Filled, Token: "0af", Now: 17, Lease: "a b {c d}", Body: "cs1 x\ny"}, m)
	m, ok = wake.Parse("revoked 0af 17 1 k")
	require.True(t, ok)
	assert.Equal(t, wake.Message{Word: wake.Revoked, Token: "0af", Now: 17, Lease: "k"}, m)
	for _, none := range []string{"", "x", "filled 0af", "filled 0af 17 2 k", "filled 0af 17 -1 k", "filled 0af 17 x k", "filled 0af x 1 k"} {
		_, ok := wake.Parse(none)
		assert.False(t, ok, none)
	}
}
