// Package metricsdoc writes the guides' list of metrics from the collectors
// themselves. There is one place to describe a metric, and a test that fails when
// docs/metrics.md says something else.
package metricsdoc

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/lock"
	"github.com/compozy/cache/notification"
	"github.com/compozy/cache/store"
)

// Mark is the name of the section of a page that holds the list.
const Mark = "metrics"

// described picks what is needed out of the text of a prometheus.Desc, which
// offers nothing else.
var described = regexp.MustCompile(
	`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"),.* constLabels: \{.*\}, variableLabels: \{(.*)\}\}$`)

// Metric is what a collector says of one of its metrics.
type Metric struct {
	Name, Help string
	Labels     []string // beside "cache", which all have
}

// Metrics returns all metrics of the module, sorted by name.
func Metrics() ([]Metric, error) {
	collectors, err := collectors()
	if err != nil {
		return nil, err
	}
	var all []Metric
	for _, c := range collectors {
		for d := range descriptions(c) {
			parts := described.FindStringSubmatch(d)
			if parts == nil {
				return nil, fmt.Errorf("metricsdoc: cannot read %s", d)
			}
			var m Metric
			if m.Name, err = strconv.Unquote(parts[1]); err != nil {
				return nil, fmt.Errorf("metricsdoc: %w", err)
			}
			if m.Help, err = strconv.Unquote(parts[2]); err != nil {
				return nil, fmt.Errorf("metricsdoc: %w", err)
			}
			if parts[3] != "" {
				m.Labels = strings.Split(parts[3], ",")
			}
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Table renders all metrics of the module, sorted by name.
func Table() (string, error) {
	all, err := Metrics()
	if err != nil {
		return "", err
	}
	var table strings.Builder
	table.WriteString("| metric | labels | meaning |\n|---|---|---|\n")
	for _, m := range all {
		labels := "–"
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		table.WriteString("| `" + m.Name + "` | " + labels + " | " + m.Help + " |\n")
	}
	return table.String(), nil
}

// collectors builds one of everything that has metrics. None of them connects.
func collectors() ([]prometheus.Collector, error) {
	rdb, err := client.New(config.Default())
	if err != nil {
		return nil, err
	}
	locks, err := lock.NewRedisLockManager(rdb)
	if err != nil {
		return nil, err
	}
	notifications, err := notification.NewRedisNotificationSystem(rdb)
	if err != nil {
		return nil, err
	}
	values, err := store.New(rdb)
	if err != nil {
		return nil, err
	}
	return []prometheus.Collector{
		rdb.Collector(), locks.Collector(), notifications.Collector(), values.Collector(),
	}, rdb.Close()
}

// descriptions yields the text of each description of c.
func descriptions(c prometheus.Collector) func(yield func(string) bool) {
	ch := make(chan *prometheus.Desc, 256) // more than any collector has
	c.Describe(ch)
	close(ch)
	return func(yield func(string) bool) {
		for d := range ch {
			if !yield(d.String()) {
				return
			}
		}
	}
}
