package configdoc

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/readme"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const configDir = "../../config"

func TestPageIsUpToDate(t *testing.T) {
	t.Parallel()
	rows, err := Rows(configDir)
	require.NoError(t, err)
	require.NoError(t, readme.Check("../../docs/configuration.md", Mark, Table(rows)))
}

// The rows come from the source, the settings from the compiled struct: both must
// tell of the same fields.
func TestRowsCoverEveryField(t *testing.T) {
	t.Parallel()
	rows, err := Rows(configDir)
	require.NoError(t, err)
	var want, got []string
	for sf := range reflect.TypeFor[config.Config]().Fields() {
		if sf.IsExported() {
			want = append(want, sf.Name)
		}
	}
	for _, r := range rows {
		got = append(got, r.Field)
		require.NotEmpty(t, r.Meaning, r.Field)
	}
	require.Equal(t, want, got)
}

func TestTable(t *testing.T) {
	t.Parallel()
	got := Table([]Row{
		{Variable: "REDIS_A", Field: "A", JSON: "a", Default: "1", Meaning: "one | two <three>"},
		{Field: "B", Meaning: "no variable"},
	})
	require.Equal(t, "| variable | field | JSON | default | meaning |\n|---|---|---|---|---|\n"+
		"| `REDIS_A` | `A` | `a` | `1` | one \\| two &lt;three> |\n"+
		"| – | `B` | – | – | no variable |\n", got)
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source := "package config\n\ntype Config struct {\n\t// What it\n\t// means.\n\tHost string `env:\"REDIS_HOST,default=localhost\" json:\"host\"`\n\n\tsecret int\n}\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.go"), []byte(source), 0o600))
	file := filepath.Join(dir, "README.md")
	require.NoError(t, os.WriteFile(file, []byte("<!-- config:begin --><!-- config:end -->"), 0o600))

	require.NoError(t, Update(dir, file))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), "| `REDIS_HOST` | `Host` | `host` | `localhost` | What it means. |\n<!-- config:end -->")
	require.NotContains(t, string(text), "secret")

	err = Update(filepath.Join(dir, "missing"), file)
	require.Error(t, err)
	err = Update(dir, filepath.Join(dir, "missing"))
	require.Error(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.go"), []byte("package config\n"), 0o600))
	err = Update(dir, file)
	require.ErrorContains(t, err, "no struct Config")
}
