package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// app is the program under test.
var app string

func TestMain(m *testing.M) { os.Exit(withApp(m)) }

func withApp(m *testing.M) int {
	dir, err := os.MkdirTemp("", "browser")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	app = filepath.Join(dir, "app")
	build := exec.CommandContext(context.Background(), "go", "build", "-o", app, "./examples/app")
	build.Dir = "../../.."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the example: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
