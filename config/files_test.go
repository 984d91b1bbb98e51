package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A file may be anything: what is no file with a password or a certificate is neither
// waited for nor read whole.
func TestFilesThatAreNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe, sparse, binary := filepath.Join(dir, "pipe"), filepath.Join(dir, "sparse"), filepath.Join(dir, "binary")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	require.NoError(t, os.WriteFile(binary, []byte("a\x00b"), 0o600))
	require.NoError(t, os.WriteFile(sparse, nil, 0o600))
	require.NoError(t, os.Truncate(sparse, 1<<30))
	for path, want := range map[string]string{
		pipe: "it is not a regular file", sparse: "it is larger than ", binary: "it has a NUL byte in it",
		filepath.Join(dir, "missing"): "it cannot be read: no such file or directory",
	} {
		for field, c := range map[string]*Config{
			"PasswordFile": {PasswordFile: path},
			"TLSCAFile":    {TLSEnabled: true, TLSCAFile: path},
			"TLSCertFile":  {TLSEnabled: true, TLSCertFile: path, TLSKeyFile: path},
			"TLSKeyFile":   {TLSEnabled: true, TLSCertFile: path, TLSKeyFile: path},
		} {
			got := badFields(t, c.Validate())[field]
			require.Contains(t, got.Allowed, want, field)
			require.Equal(t, "\""+path+"\"", got.Value)
		}
		_, err := (&Config{PasswordFile: path}).ReadPasswordFile()
		require.ErrorContains(t, err, path+strings.TrimPrefix(want, "it"))
	}
	_, err := (&Config{PasswordFile: filepath.Join(dir, "missing")}).ReadPasswordFile()
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = (&Config{PasswordFile: "hunter2"}).ReadPasswordFile()
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotContains(t, err.Error(), "hunter2")

	link := filepath.Join(dir, "link") // as Kubernetes mounts secrets
	require.NoError(t, os.Symlink(writeSecret(t, strings.Repeat("x", 64<<10)), link))
	require.NoError(t, (&Config{PasswordFile: link}).Validate())
}

// The byte order mark of an editor would hide the first certificate, and be part of the
// password.
func TestFilesWithByteOrderMark(t *testing.T) {
	t.Parallel()
	ca, cert, key := writeTLSFiles(t)
	for _, file := range []string{cert, key} { // ca is the same file as cert
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, append([]byte("\ufeff"), content...), 0o600))
	}
	require.NoError(t, (&Config{
		TLSEnabled: true, TLSCAFile: ca, TLSCertFile: cert, TLSKeyFile: key, PasswordFile: writeSecret(t, "\ufeffpw"),
	}).Validate())
}

func TestNilConfig(t *testing.T) {
	t.Parallel()
	var c *Config
	require.False(t, c.UsesTLS())
	_, err := c.ReadPasswordFile()
	require.EqualError(t, err, "config: no password file is named")
	_, err = (&Config{}).ReadPasswordFile()
	require.EqualError(t, err, "config: no password file is named")
	require.True(t, c.IsRequired())
	require.Zero(t, c.Database())
	require.NotPanics(t, c.ForgetServer)
}
