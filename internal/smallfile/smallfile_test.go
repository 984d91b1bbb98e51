package smallfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	full := strings.Repeat("x", 2<<10)
	require.NoError(t, os.WriteFile(file, []byte(full), 0o600))
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(file, link))
	for _, path := range []string{file, link} {
		content, err := Read(path, 2)
		require.NoError(t, err)
		require.Equal(t, full, string(content))
	}
	_, err := Read(file, 1)
	require.EqualError(t, err, "is larger than 1 KiB")
}

// One byte order mark at the start is no part of the content.
func TestReadWithByteOrderMark(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	for content, want := range map[string]string{
		"\ufeffpw": "pw", "\ufeff": "", "p\ufeffw": "p\ufeffw", "\ufeff\ufeffpw": "\ufeffpw", "\xefpw": "\xefpw",
	} {
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		got, err := Read(file, 1)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

// None of these may be read, and none of them may block.
func TestReadRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(pipe, link))
	sparse := filepath.Join(dir, "sparse")
	require.NoError(t, os.WriteFile(sparse, nil, 0o600))
	require.NoError(t, os.Truncate(sparse, 1<<30))
	binary := filepath.Join(dir, "binary")
	require.NoError(t, os.WriteFile(binary, []byte("a\x00b"), 0o600))
	for path, want := range map[string]string{
		pipe: "is not a regular file", link: "is not a regular file", dir: "is not a regular file", "/dev/zero": "is not a regular file",
		sparse: "is larger than 64 KiB", binary: "has a NUL byte in it",
		filepath.Join(dir, "missing"): "cannot be read: no such file or directory",
	} {
		content, err := Read(path, Password)
		require.EqualError(t, err, want, path)
		require.Nil(t, content)
		require.NotContains(t, err.Error(), dir)
	}
	_, err := Read(filepath.Join(dir, "missing"), Password)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
