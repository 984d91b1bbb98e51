package readme

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReplace(t *testing.T) {
	t.Parallel()
	got, err := Replace("head\n<!-- a:begin -->\nold\n<!-- a:end -->\ntail\n", "a", "new\n")
	require.NoError(t, err)
	require.Equal(t, "head\n<!-- a:begin -->\nnew\n<!-- a:end -->\ntail\n", got)

	_, err = Replace("no marks", "a", "new")
	require.ErrorContains(t, err, "a:begin")
	_, err = Replace("<!-- a:end --><!-- a:begin -->", "a", "new")
	require.ErrorContains(t, err, "a:end")
}

func TestUpdateAndCheck(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "README.md")
	require.NoError(t, os.WriteFile(file, []byte("<!-- a:begin --><!-- a:end -->"), 0o600))

	require.ErrorContains(t, Check(file, "a", "new\n"), "stale")
	require.NoError(t, Update(file, "a", "new\n"))
	require.NoError(t, Check(file, "a", "new\n"))
	require.NoError(t, Update(file, "a", "new\n"), "nothing to do the second time")

	require.Error(t, Update(filepath.Join(t.TempDir(), "none"), "a", ""))
	require.Error(t, Check(filepath.Join(t.TempDir(), "none"), "a", ""))
}
