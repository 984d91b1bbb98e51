package redisx_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redisx"
)

func TestBackground(t *testing.T) {
	t.Parallel()
	require.False(t, redisx.IsBackground(t.Context()))
	require.True(t, redisx.IsBackground(redisx.Background(t.Context())))
}
