package deploy

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dashboard is what of Grafana's format the tests look at.
type dashboard struct {
	Templating struct {
		List []struct{ Name, Type, Query, Definition string }
	}
	Panels []panel
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               struct{ UID string }
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct {
		RefID, Expr, LegendFormat string
		Datasource                struct{ UID string }
	}
}

// read reads the dashboard. The query of a variable may be an object; then it is its definition.
func (d *dashboard) read(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("grafana/cache.json")
	require.NoError(t, err)
	var loose map[string]any
	require.NoError(t, json.Unmarshal(text, &loose))
	for _, v := range loose["templating"].(map[string]any)["list"].([]any) {
		v := v.(map[string]any)
		if _, isText := v["query"].(string); !isText {
			v["query"] = v["definition"]
		}
	}
	text, err = json.Marshal(loose)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, d))
}

// inLegend finds the labels that a legend shows.
var inLegend = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

func TestDashboard(t *testing.T) {
	t.Parallel()
	known := registered(t)
	var d dashboard
	d.read(t)

	variables := make(map[string]string)
	for _, v := range d.Templating.List {
		variables[v.Name] = v.Type
		if v.Type == "query" {
			inner, _, found := strings.Cut(strings.TrimPrefix(v.Query, "label_values("), ", ")
			require.True(t, found, v.Query)
			_, err := known.check(inner)
			assert.NoError(t, err, v.Query)
		}
	}
	assert.Equal(t, map[string]string{"datasource": "datasource", "job": "query", "cache": "query"}, variables)

	seen, shown := make(map[int]bool), make(map[string]bool)
	for _, p := range d.Panels {
		assert.False(t, seen[p.ID], "%q has the ID of another panel", p.Title)
		seen[p.ID] = true
		assert.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		for _, q := range d.Panels {
			assert.False(t, p.ID < q.ID && overlap(p, q), "%q lies over %q", p.Title, q.Title)
		}
		if p.Type == "row" {
			continue
		}
		assert.NotEmpty(t, p.FieldConfig.Defaults.Unit, "%q has no unit", p.Title)
		assert.Greater(t, len(p.Description), 40, "%q does not say what it means", p.Title)
		assert.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			assert.Equal(t, "${datasource}", target.Datasource.UID, p.Title)
			q, err := known.check(target.Expr)
			if !assert.NoError(t, err, "%q: %s", p.Title, target.Expr) {
				continue
			}
			assert.True(t, q.chosen, "%q heeds the variables job and cache: %s", p.Title, target.Expr)
			for _, name := range q.metrics {
				shown[name] = true
			}
			for _, label := range inLegend.FindAllStringSubmatch(target.LegendFormat, -1) {
				assert.Contains(t, q.labels, label[1], "%q: the legend of %s", p.Title, target.Expr)
			}
		}
	}
	for name := range known {
		assert.True(t, shown[name] || name == "up", "no panel shows %s", name)
	}
}

func overlap(p, q panel) bool {
	a, b := p.GridPos, q.GridPos
	return a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H
}

// rules is what of Prometheus' format the tests look at.
type rules struct {
	Groups []struct {
		Rules []struct {
			Alert, Expr, For    string
			Labels, Annotations map[string]string
		}
	}
}

// inText finds the labels that a text names.
var inText = regexp.MustCompile(`\$labels\.(\w+)`)

func TestAlerts(t *testing.T) {
	t.Parallel()
	known := registered(t)
	text, err := os.ReadFile("prometheus/alerts.yml")
	require.NoError(t, err)
	var r rules
	require.NoError(t, yaml.Unmarshal(text, &r))
	tests, err := os.ReadFile("prometheus/alerts_test.yml")
	require.NoError(t, err)
	require.Len(t, r.Groups, 1)
	require.NotEmpty(t, r.Groups[0].Rules)
	for _, rule := range r.Groups[0].Rules {
		q, err := known.check(rule.Expr)
		if !assert.NoError(t, err, rule.Alert) {
			continue
		}
		assert.NotEmpty(t, rule.For, rule.Alert)
		assert.Contains(t, []string{"critical", "warning", "info"}, rule.Labels["severity"], rule.Alert)
		assert.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
		assert.NotEmpty(t, rule.Annotations["description"], rule.Alert)
		for _, text := range rule.Annotations {
			for _, label := range inText.FindAllStringSubmatch(text, -1) {
				assert.Contains(t, q.labels, label[1], "%s: %s", rule.Alert, text)
			}
		}
		for _, what := range []string{"fires", "does not fire"} {
			assert.Contains(t, string(tests), "name: "+rule.Alert+" "+what+"\n")
		}
	}
}

// A rule test with a name that does not exist would test nothing.
func TestSeriesOfRuleTests(t *testing.T) {
	t.Parallel()
	known := registered(t)
	text, err := os.ReadFile("prometheus/alerts_test.yml")
	require.NoError(t, err)
	var file struct {
		Tests []struct {
			Name        string
			InputSeries []struct{ Series string } `yaml:"input_series"`
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	require.NotEmpty(t, file.Tests)
	for _, test := range file.Tests {
		for _, s := range test.InputSeries {
			_, err := known.check(s.Series)
			assert.NoError(t, err, test.Name)
		}
	}
}
