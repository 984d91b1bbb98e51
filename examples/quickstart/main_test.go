package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

func TestMain(m *testing.M) { redistest.VerifyTestMain(m) }

const prints = `holding the lock of invoice-7
received: invoice-7 is paid
a late writer is refused: true
`

func TestQuickstart(t *testing.T) { // sets the environment, so not in parallel
	for _, url := range []string{"", redistest.Start(t).URL()} {
		t.Setenv("REDIS_URL", url)
		for range 2 { // the second time, a server that stays has what the first has written
			var out bytes.Buffer
			require.NoError(t, run(t.Context(), &out))
			assert.Equal(t, prints, out.String())
		}
	}
	t.Setenv("REDIS_URL", "redis://%")
	require.Error(t, run(t.Context(), new(bytes.Buffer)), "a program ends with 1 then")
}

func TestQuickstartIsShort(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("main.go")
	require.NoError(t, err)
	assert.Less(t, strings.Count(string(source), "\n"), 60)
}
