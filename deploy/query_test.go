package deploy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/metricsdoc"
)

// metrics is what may be asked for: the labels of each metric by its name.
type metrics map[string][]string

// registered returns what the code registers, and the one metric that Prometheus adds.
func registered(t *testing.T) metrics {
	t.Helper()
	all, err := metricsdoc.Metrics()
	require.NoError(t, err)
	m := metrics{"up": nil}
	for _, one := range all {
		m[one.Name] = append(one.Labels, "cache")
	}
	return m
}

// query is what an expression is about.
type query struct {
	metrics []string
	labels  []string // those of the result, at most
	chosen  bool     // every selector heeds the variables of the dashboard
}

// check returns what a PromQL expression is about, or an error that says what in it does not exist. Grafana's variables may
// be in it.
func (m metrics) check(text string) (query, error) {
	text = strings.ReplaceAll(text, "$__rate_interval", "5m")
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		return query{}, err
	}
	q := query{chosen: true}
	var problems []error
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			name, of, err := m.series(n.Name)
			if err == nil {
				err = known(of, slices.Collect(names(n.LabelMatchers)))
			}
			if err == nil {
				err = counted(n.Name, path)
			}
			if err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", n.Name, err))
				return nil
			}
			q.metrics = append(q.metrics, name)
			q.chosen = q.chosen && heeds(n, "job") && (name == "up" || heeds(n, "cache"))
		case *parser.AggregateExpr:
			if err := known(m.labels(n.Expr), n.Grouping); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", n.Op, err))
			}
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				if err := known(append(m.labels(n.LHS), m.labels(n.RHS)...), n.VectorMatching.MatchingLabels); err != nil {
					problems = append(problems, err)
				}
			}
		}
		return nil
	})
	if len(problems) > 0 {
		return query{}, problems[0]
	}
	q.labels = m.labels(expr)
	return q, nil
}

// series returns the metric that a series belongs to, and the labels it has.
func (m metrics) series(name string) (metric string, of []string, err error) {
	added := []string{"job", "instance"} // by Prometheus
	if of, ok := m[name]; ok {
		return name, slices.Concat(added, of), nil
	}
	for _, part := range []string{"_bucket", "_sum", "_count"} {
		metric, ok := strings.CutSuffix(name, part)
		if of, exists := m[metric]; ok && exists && isHistogram(metric) {
			if part == "_bucket" {
				added = append(added, "le")
			}
			return metric, slices.Concat(added, of), nil
		}
	}
	return "", nil, errors.New("the code registers no metric of this name")
}

// isHistogram reports whether a metric is one: by its name, as a description does not say it.
func isHistogram(metric string) bool {
	return strings.HasSuffix(metric, "_seconds") &&
		!strings.HasSuffix(metric, "_age_seconds") && !strings.HasSuffix(metric, "_journal_seconds")
}

// counted returns an error if a counter is used as it is, or rate, increase or a histogram where it makes no sense.
func counted(name string, path []parser.Node) error {
	grows := strings.HasSuffix(name, "_total") || strings.HasSuffix(name, "_bucket") || strings.HasSuffix(name, "_sum") ||
		strings.HasSuffix(name, "_count")
	within := false
	for _, above := range path {
		call, ok := above.(*parser.Call)
		within = within || ok && (call.Func.Name == "rate" || call.Func.Name == "increase")
	}
	switch {
	case len(path) == 0: // only a series
		return nil
	case grows && !within:
		return errors.New("it only grows: use rate or increase")
	case !grows && within:
		return errors.New("it does not only grow: rate and increase mean nothing")
	case !grows && isHistogram(name):
		return errors.New("it is a histogram: use its _bucket, _sum or _count")
	}
	return nil
}

// known returns an error if one of the names is not among the labels.
func known(of, names []string) error {
	for _, name := range names {
		if !slices.Contains(of, name) {
			return fmt.Errorf("there is no label %q among %q", name, of)
		}
	}
	return nil
}

// names yields the labels that a selector names.
func names(matchers []*labels.Matcher) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, matcher := range matchers {
			if matcher.Name != "__name__" && !yield(matcher.Name) {
				return
			}
		}
	}
}

// heeds reports whether a selector has label=~"$label".
func heeds(s *parser.VectorSelector, label string) bool {
	return slices.ContainsFunc(s.LabelMatchers, func(matcher *labels.Matcher) bool {
		return matcher.Name == label && matcher.Type == labels.MatchRegexp && matcher.Value == "$"+label
	})
}

// labels returns what labels the result of an expression may have.
func (m metrics) labels(expr parser.Expr) []string {
	switch e := expr.(type) {
	case *parser.VectorSelector:
		_, of, _ := m.series(e.Name)
		return of
	case *parser.AggregateExpr:
		switch {
		case e.Op == parser.TOPK || e.Op == parser.BOTTOMK:
			return m.labels(e.Expr)
		case e.Without:
			return slices.DeleteFunc(m.labels(e.Expr), func(l string) bool { return slices.Contains(e.Grouping, l) })
		}
		return e.Grouping
	case *parser.BinaryExpr:
		left, right := m.labels(e.LHS), m.labels(e.RHS)
		if e.VectorMatching == nil || e.Op == parser.LAND || e.Op == parser.LUNLESS {
			return left
		}
		if e.VectorMatching.On {
			return e.VectorMatching.MatchingLabels
		}
		if len(left) == 0 {
			return right
		}
		return slices.DeleteFunc(slices.Clone(left), func(l string) bool {
			return slices.Contains(e.VectorMatching.MatchingLabels, l)
		})
	}
	all := make(map[string]struct{})
	for child := range parser.ChildrenIter(expr) {
		if inner, ok := child.(parser.Expr); ok {
			for _, l := range m.labels(inner) {
				all[l] = struct{}{}
			}
		}
	}
	if call, ok := expr.(*parser.Call); ok && call.Func.Name == "histogram_quantile" {
		delete(all, "le")
	}
	return slices.Sorted(maps.Keys(all))
}

func TestCheck(t *testing.T) {
	t.Parallel()
	known := registered(t)
	for _, good := range []string{
		`sum by (job, class) (rate(cache_lock_lost_total{cause="expired"}[5m]))`,
		`histogram_quantile(0.9, sum by (le) (rate(cache_lock_wait_seconds_bucket[$__rate_interval])))`,
		`up{job="x"}`,
		`1 - cache_store_near_up`,
	} {
		_, err := known.check(good)
		assert.NoError(t, err, good)
	}
	for bad, why := range map[string]string{
		`cache_lock_hold`:                                                   "no metric",
		`rate(cache_lock_lost_totals[5m])`:                                  "no metric",
		`rate(cache_lock_held_bucket[5m])`:                                  "no metric",
		`rate(cache_store_near_age_seconds_bucket[5m])`:                     "no metric",
		`sum(rate(cache_lock_lost_total{reason="x"}[5m]))`:                  `no label "reason"`,
		`sum by (klass) (rate(cache_lock_lost_total[5m]))`:                  `no label "klass"`,
		`sum by (le) (rate(cache_lock_wait_seconds_count[5m]))`:             `no label "le"`,
		`sum by (cause) (sum by (class) (rate(cache_lock_lost_total[5m])))`: `no label "cause"`,
		`cache_lock_held / ignoring (state) cache_lock_waiting`:             `no label "state"`,
		`sum(cache_lock_lost_total)`:                                        "only grows",
		`rate(cache_lock_held[5m])`:                                         "does not only grow",
		`sum(cache_lock_wait_seconds)`:                                      "histogram",
		`sum(`:                                                              "unclosed",
	} {
		_, err := known.check(bad)
		assert.ErrorContains(t, err, why, bad)
	}
	q, err := known.check(`sum by (class) (rate(cache_lock_lost_total{job=~"$job",cache=~"$cache"}[5m]))`)
	require.NoError(t, err)
	assert.Equal(t, query{metrics: []string{"cache_lock_lost_total"}, labels: []string{"class"}, chosen: true}, q)
	q, err = known.check(`cache_lock_held{cache=~"$cache"}`)
	require.NoError(t, err)
	assert.False(t, q.chosen)
}
