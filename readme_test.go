package cache_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the shorter snippets of the README take for granted.
const readmePrelude = `package snippet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/compozy/cache"
	cachetest "github.com/compozy/cache/fxtest"
	"github.com/compozy/cache/health"
	"github.com/compozy/cache/notification"
)

var (
	_ = json.Marshal
	_ = errors.Is
	_ = fmt.Sprint
	_ = log.Print
	_ sync.WaitGroup
	_ testing.TB
	_ = time.Second
	_ = prometheus.NewRegistry
	_ = promhttp.HandlerFor
	_ = cachetest.New
	_ = require.NoError
	_ notification.Policy
	_ = health.New

	ctx       context.Context
	locks     cache.LockManager
	manager   *cache.RedisLockManager
	events    cache.NotificationSystem
	system    *cache.RedisNotificationSystem
	rdb       *cache.Redis
	mux       *http.ServeMux
	fakes     cache.LockManager
	orders    struct{ Module fx.Option }
	invoice   any
	workflow  struct{ ID string }
	store     interface{ Save(context.Context, any, int64) error }
	checkDisk func(context.Context) error
	handle    func(context.Context, cache.TaskEvent) error

	lastEventID string
)

`

// TestReadmeSnippetsCompile builds every Go snippet of the README: programs as
// they are, functions and statements behind a prelude.
func TestReadmeSnippetsCompile(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	root, err := os.Getwd()
	require.NoError(t, err)

	// An overlay makes the go command see files that are not in the work tree.
	dir := t.TempDir()
	overlay := map[string]string{}
	var packages []string
	for n, block := range strings.Split(string(readme), "\n```go\n")[1:] {
		code, _, found := strings.Cut(block, "\n```")
		require.True(t, found, "snippet %d has no end", n)
		switch {
		case strings.HasPrefix(code, "package main"):
			// As a library it need not be linked.
			code = "package snippet" + strings.TrimPrefix(code, "package main")
		case strings.HasPrefix(code, "func "):
			code = readmePrelude + code + "\n"
		default:
			code = fmt.Sprintf("%sfunc snippet() error {\n%s\nreturn nil\n}\n", readmePrelude, code)
		}
		file := filepath.Join(dir, fmt.Sprintf("%d.go", n))
		require.NoError(t, os.WriteFile(file, []byte(code), 0o600))
		overlay[filepath.Join(root, "internal", "readme", fmt.Sprint(n), "snippet.go")] = file
		packages = append(packages, fmt.Sprintf("./internal/readme/%d", n))
	}
	require.Greater(t, len(packages), 8, "the snippets were found")
	index, err := json.Marshal(map[string]any{"Replace": overlay})
	require.NoError(t, err)
	overlayFile := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(overlayFile, index, 0o600))

	args := append([]string{"build", "-overlay", overlayFile, "-o", os.DevNull}, packages...)
	out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}
