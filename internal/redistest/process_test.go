package redistest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMissingBinarySaysWhatToDo(t *testing.T) {
	t.Setenv(serverVariable, "")
	t.Setenv("PATH", t.TempDir())
	log, failed := record(t, func(r *recorder) { Start(r) })
	require.True(t, failed)
	require.Contains(t, log, "make test")
	require.Contains(t, log, "redis-server package")
}

// unusable returns values of the variable that no server can be started from,
// each with what the error says about it.
func unusable(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	require.NoError(t, os.WriteFile(data, nil, 0o600))
	return map[string]string{
		filepath.Join(dir, "none"): "no such file",
		"redis-server":             "must be an absolute path",
		"./redis-server":           "must be an absolute path",
		dir:                        "is a directory",
		data:                       "permission denied",
	}
}

func TestUnusableServerVariableIsNamed(t *testing.T) {
	for path, want := range unusable(t) {
		t.Run(want, func(t *testing.T) {
			t.Setenv(serverVariable, path)
			log, failed := record(t, func(r *recorder) { Start(r) })
			require.True(t, failed, path)
			assert.Contains(t, log, serverVariable+`="`+path+`"`)
			assert.Contains(t, log, want)
		})
	}
}

// link makes a server that is not the first in PATH.
func link(t *testing.T) string {
	t.Helper()
	binary, err := findBinary()
	require.NoError(t, err)
	other := filepath.Join(t.TempDir(), "other-server")
	require.NoError(t, os.Symlink(binary, other))
	return other
}

func TestServerVariableServesForAllKinds(t *testing.T) {
	other := link(t)
	t.Setenv(serverVariable, other)
	t.Setenv("PATH", t.TempDir()) // neither another server nor redis-cli
	servers := []*Server{Start(t)}
	sentinel := StartSentinel(t)
	servers = append(servers, sentinel.Master(), sentinel.Replica())
	servers = append(servers, sentinel.Sentinels()...)
	servers = append(servers, StartCluster(t, 3).Nodes()...)
	for _, server := range servers {
		info, err := server.info("server")
		require.NoError(t, err)
		assert.Equal(t, other, info["executable"])
	}
}

// runInstaller runs the script that provides a server, on a system without one.
// It returns what the script wrote and whether it wanted to install anything.
func runInstaller(t *testing.T, variable string) (output string, installed bool, err error) {
	t.Helper()
	bash, err := exec.LookPath("bash")
	require.NoError(t, err)
	script, err := filepath.Abs("../../tools/install-redis.sh")
	require.NoError(t, err)
	path := t.TempDir()
	marker := filepath.Join(path, "installed")
	for _, name := range []string{"apt-get", "sudo", "id"} {
		stub := "#!" + bash + "\n: >'" + marker + "'\nexit 1\n"
		require.NoError(t, os.WriteFile(filepath.Join(path, name), []byte(stub), 0o700)) //nolint:gosec // a program
	}
	cmd := exec.Command(bash, script)
	cmd.Env = []string{"PATH=" + path, serverVariable + "=" + variable}
	text, err := cmd.CombinedOutput()
	_, missing := os.Stat(marker)
	return string(text), missing == nil, err
}

func TestInstallerLeavesTheChosenServerAlone(t *testing.T) {
	t.Parallel()
	output, installed, err := runInstaller(t, link(t))
	require.NoError(t, err, output)
	require.False(t, installed)

	for path := range unusable(t) {
		output, installed, err := runInstaller(t, path)
		require.Error(t, err, path)
		assert.False(t, installed, path)
		assert.Contains(t, output, serverVariable)
		assert.Contains(t, output, path)
	}

	_, installed, err = runInstaller(t, "")
	require.Error(t, err, "the stub of apt-get fails")
	require.True(t, installed, "without the variable it installs one")
}
