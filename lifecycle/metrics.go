package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"
)

// Metrics registers collectors while an application runs. They are registered at
// start, not when the application is built: one that is never started, or whose start
// fails, has to leave the registry as it was, and only a hook is rolled back.
type Metrics struct {
	Registerer prometheus.Registerer
	Collectors []prometheus.Collector
}

// AppendMetrics appends the hooks of m to lc.
func AppendMetrics(lc fx.Lifecycle, m *Metrics) {
	lc.Append(fx.StartStopHook(m.Start, m.Stop))
}

// Start registers all collectors. If the registry refuses one, none is left registered,
// and the error names each that was refused. It matches what the registry said, such
// as prometheus.AlreadyRegisteredError.
func (m *Metrics) Start() (err error) {
	var registered []prometheus.Collector
	refused, done := &metricsError{}, false
	defer func() {
		if !done { // a registerer may panic, too
			err = errors.Join(err, m.unregister(registered))
		}
	}()
	for _, c := range m.Collectors {
		if err := m.Registerer.Register(c); err != nil {
			refused.add(c, err)
		} else {
			registered = append(registered, c)
		}
	}
	if done = len(refused.errs) == 0; done {
		return nil
	}
	return refused
}

// Stop takes the collectors out of the registry, so that an application can be started
// again in the same process. It returns an error if the Registerer does not do that within a second, or ends its goroutine;
// what the Registerer panics with goes on.
func (m *Metrics) Stop() error { return m.unregister(m.Collectors) }

// unregisterLimit is what a Registerer may take: locks are released, and Redis is closed, after that.
const unregisterLimit = time.Second

func (m *Metrics) unregister(collectors []prometheus.Collector) error {
	ctx, cancel := context.WithTimeout(context.Background(), unregisterLimit)
	defer cancel()
	var fault any
	err := errors.New("cache: unregistering metrics: the Registerer has called runtime.Goexit")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() { fault = recover() }()
		for _, c := range collectors {
			if ctx.Err() != nil {
				break // another application may have registered the like since
			}
			m.Registerer.Unregister(c)
		}
		err = nil
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("cache: unregistering metrics: the Registerer does not return within %v", unregisterLimit)
	}
	if fault != nil {
		panic(fault)
	}
	return err
}

// metricsError is what a registry said of the collectors that it refused.
type metricsError struct {
	twice  []string // the collectors that it has already
	others []string // what it said of further ones
	errs   []error  // all that it said
}

func (e *metricsError) add(c prometheus.Collector, err error) {
	e.errs = append(e.errs, err)
	list, text := &e.others, err.Error()
	// The registry's own words for this name no collector.
	if errors.As(err, new(prometheus.AlreadyRegisteredError)) {
		list, text = &e.twice, collectorName(c)
	}
	if !slices.Contains(*list, text) {
		*list = append(*list, text)
	}
}

// Error names each collector once, and gives the advice on duplicates once.
func (e *metricsError) Error() string {
	var problems []string
	if len(e.twice) > 0 {
		problems = append(problems, fmt.Sprintf("already registered: %s (include cache.RegisterMetrics once, give a second "+
			"SetupCache a name with SetupWithName, and do not register the same collectors by hand)", strings.Join(e.twice, ", ")))
	}
	return "cache: registering metrics: " + strings.Join(append(problems, e.others...), "; ")
}

// Unwrap returns what the registry said.
func (e *metricsError) Unwrap() []error { return e.errs }

// descriptor finds the name and the constant labels in the text of a prometheus.Desc,
// which has no methods that return them.
var descriptor = regexp.MustCompile(`^Desc\{fqName: "([^"]*)".* constLabels: (\{.*\}), variableLabels:`)

// collectorName names a collector by its first metric, with the constant labels that
// tell the instances of this module apart.
func collectorName(c prometheus.Collector) string {
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		c.Describe(descriptions)
	}()
	name := fmt.Sprintf("%T", c)
	first := true
	for d := range descriptions {
		if first {
			name, first = d.String(), false
		}
	}
	if m := descriptor.FindStringSubmatch(name); m != nil {
		return m[1] + strings.TrimSuffix(m[2], "{}")
	}
	return name
}
