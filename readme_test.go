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

	"github.com/compozy/cache/internal/readme"
)

// TestReadmeSnippetsCompile does with the README what its readers do: each program
// stands alone, and the snippets of a section are pasted one after the other under the
// quick start. They may use what the page imports and what they declare themselves.
func TestReadmeSnippetsCompile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	page, err := readme.Snippets(string(text))
	require.NoError(t, err)
	require.NotEmpty(t, page)
	quickStart := page[0]
	require.True(t, quickStart.IsProgram())

	packages := map[string][]readme.Snippet{} // what is pasted into each
	for n, s := range page {
		if s.IsProgram() {
			packages[fmt.Sprint("program", n)] = []readme.Snippet{s}
			continue
		}
		name := "under " + s.Section
		if packages[name] == nil {
			packages[name] = []readme.Snippet{quickStart}
		}
		packages[name] = append(packages[name], s)
	}
	require.Greater(t, len(packages), 6, "the snippets were found")

	// An overlay makes the go command see files that are not in the work tree.
	dir := t.TempDir()
	root, err := os.Getwd()
	require.NoError(t, err)
	overlay := map[string]string{}
	args := []string{"build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", os.DevNull}
	for _, snippets := range packages {
		code, err := readme.Paste(page, snippets)
		require.NoError(t, err)
		folder := fmt.Sprint("pasted", len(overlay))
		file := filepath.Join(dir, folder+".go")
		// As a library it need not be linked.
		require.NoError(t, os.WriteFile(file, []byte(strings.Replace(code, "package main", "package pasted", 1)), 0o600))
		overlay[filepath.Join(root, "internal", "readme", folder, "pasted.go")] = file
		args = append(args, "./internal/readme/"+folder)
	}
	index, err := json.Marshal(map[string]any{"Replace": overlay})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "overlay.json"), index, 0o600))

	out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}
