package cache_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/readme"
	"github.com/compozy/cache/internal/redistest"
)

// pages are the README and the guides, which readers paste from.
func pages(t *testing.T) []string {
	t.Helper()
	guides, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	require.Greater(t, len(guides), 6)
	return append([]string{"README.md"}, guides...)
}

// TestDocumentedCode does with the README and the guides what their readers do. A program
// stands alone, and what it is said to print it prints. Other snippets are pasted: those of a
// page that begins with a program under it, section by section; those of other pages into one
// file. They may use what the page imports and what they declare themselves. What is a test
// passes.
func TestDocumentedCode(t *testing.T) {
	t.Parallel()
	p := newPasted(t)
	for _, page := range pages(t) {
		p.paste(page)
	}
	require.Greater(t, len(p.packages), 12, "the snippets were found")
	require.NotEmpty(t, p.prints)
	require.NotEmpty(t, p.tests)

	out, err := p.goCommand("build", "-o", p.dir+"/", "./...").CombinedOutput()
	require.NoError(t, err, "%s", out)
	server := redistest.Start(t)
	for _, program := range p.prints {
		run := exec.CommandContext(timeout(t), filepath.Join(p.dir, "run"), program.folder)
		run.Env = append(os.Environ(), "REDIS_URL="+server.URL())
		out, err := run.Output()
		require.NoError(t, err, program.page)
		assert.Equal(t, program.output, string(out), program.page)
	}
	for _, folder := range p.tests { // in two steps, as go test would run them in a folder that is not there
		binary := filepath.Join(p.dir, folder+".test")
		out, err := p.goCommand("test", "-c", "-vet=off", "-o", binary, "./"+folder).CombinedOutput()
		require.NoError(t, err, "%s", out)
		out, err = exec.CommandContext(t.Context(), binary, "-test.timeout=2m").CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}

// program is a program of a page that says what it prints.
type program struct{ page, folder, output string }

// pasted are the packages that become of the snippets: files that the go command sees by an
// overlay below internal/readme/pasted, and that are not in the work tree.
type pasted struct {
	t        *testing.T
	dir      string
	overlay  map[string]string
	packages []string
	prints   []program
	tests    []string
}

func newPasted(t *testing.T) *pasted {
	t.Helper()
	return &pasted{t: t, dir: t.TempDir(), overlay: map[string]string{}}
}

// paste adds the packages of a page.
func (p *pasted) paste(page string) {
	p.t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(p.t, err)
	all, err := readme.Snippets(string(text))
	require.NoError(p.t, err, page)
	var first []readme.Snippet
	if len(all) > 0 && all[0].IsProgram() {
		first = all[:1]
	}
	sections := map[string][]readme.Snippet{} // what is pasted into one file
	for _, s := range all {
		if s.IsProgram() {
			folder := p.add(page, []readme.Snippet{s}, []readme.Snippet{s})
			if s.Output != "" {
				p.prints = append(p.prints, program{page, folder, s.Output})
			}
			continue
		}
		section := ""
		if first != nil {
			section = s.Section
		}
		if sections[section] == nil {
			sections[section] = slices.Clone(first)
		}
		sections[section] = append(sections[section], s)
	}
	for _, snippets := range sections {
		p.add(page, all, snippets)
	}
}

// add adds one package and returns its folder. It is a library, which need not be linked.
func (p *pasted) add(page string, all, snippets []readme.Snippet) (folder string) {
	p.t.Helper()
	code, err := readme.Paste(all, snippets)
	require.NoError(p.t, err, page)
	folder = fmt.Sprint("pasted", len(p.packages))
	code = strings.Replace(code, "package main", "package "+folder, 1)
	code = strings.Replace(code, "\nfunc main()", "\nfunc Main()", 1)
	file := "pasted.go"
	if slices.ContainsFunc(snippets, readme.Snippet.IsTest) {
		file = "pasted_test.go"
		p.tests = append(p.tests, folder)
	}
	p.packages = append(p.packages, folder)
	p.write(folder, file, code)
	return folder
}

// write puts a file into the overlay.
func (p *pasted) write(folder, name, code string) {
	p.t.Helper()
	root, err := os.Getwd()
	require.NoError(p.t, err)
	file := filepath.Join(p.dir, folder+"-"+name)
	require.NoError(p.t, os.WriteFile(file, []byte(code), 0o600))
	p.overlay[filepath.Join(root, "internal", "readme", "pasted", folder, name)] = file
}

// goCommand is a call of the go command for the packages, and for the program "run" that is
// all programs that print something: the first argument says which.
func (p *pasted) goCommand(args ...string) *exec.Cmd {
	p.t.Helper()
	var imports, cases strings.Builder
	for _, program := range p.prints {
		fmt.Fprintf(&imports, "import %q\n", "github.com/compozy/cache/internal/readme/pasted/"+program.folder)
		fmt.Fprintf(&cases, "case %q:\n%s.Main()\n", program.folder, program.folder)
	}
	p.write("run", "main.go", "package main\nimport \"os\"\n"+imports.String()+"func main() {\nswitch os.Args[1] {\n"+cases.String()+"}\n}\n")
	index, err := json.Marshal(map[string]any{"Replace": p.overlay})
	require.NoError(p.t, err)
	overlay := filepath.Join(p.dir, "overlay.json")
	require.NoError(p.t, os.WriteFile(overlay, index, 0o600))
	var full []string
	for i, arg := range args {
		if rest, ok := strings.CutPrefix(arg, "./"); ok {
			arg = "./internal/readme/pasted/" + rest
		}
		full = append(full, arg)
		if i == 0 {
			full = append(full, "-overlay", overlay)
		}
	}
	return exec.CommandContext(p.t.Context(), "go", full...)
}

// TestDocumentedLinks finds links that lead nowhere.
func TestDocumentedLinks(t *testing.T) {
	t.Parallel()
	all := pages(t)
	api, err := filepath.Glob("docs/api/README.md")
	require.NoError(t, err)
	links := 0
	for _, page := range append(all, api...) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, target := range readme.Links(string(text)) {
			links++
			path, anchor, _ := strings.Cut(target, "#")
			to := page
			if path != "" {
				to = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(to); err != nil {
				assert.NoError(t, err, "%s links to %s", page, target)
				continue
			}
			if anchor != "" {
				text, err := os.ReadFile(to)
				require.NoError(t, err)
				assert.Contains(t, readme.Anchors(string(text)), anchor, "%s links to %s", page, target)
			}
		}
	}
	assert.Greater(t, links, 20)
}
