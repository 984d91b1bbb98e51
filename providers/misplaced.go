package providers

import (
	"fmt"
	"reflect"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"

	"github.com/compozy/cache/health"
)

// Fx puts into a group whatever its constructors return, and gives those who ask for the group what has the type that they
// name. What an application provides in another form would be ignored.

// Only what nobody else has a use for is refused: functions, or a prometheus.Gauge, may be in a group of the application's own
// that happens to have the same name.

// misplacedChecks are the forms of checks that the health report does not ask its group for.
type misplacedChecks struct {
	fx.In
	Pointers      []*health.Check   `group:"health"`
	Slices        [][]health.Check  `group:"health"`
	PointerSlices [][]*health.Check `group:"health"`
}

func refuseMisplacedChecks(in misplacedChecks) error {
	return refuseMisplaced(HealthGroup,
		"a cache.Check with `group:\"health\"`, or a []cache.Check with `group:\"health,flatten\"`",
		in.Pointers, in.Slices, in.PointerSlices)
}

// misplacedMetrics is the form of collectors that RegisterMetrics does not ask its group for.
type misplacedMetrics struct {
	fx.In
	Slices [][]prometheus.Collector `group:"metrics"`
}

func refuseMisplacedMetrics(in misplacedMetrics) error {
	return refuseMisplaced(MetricsGroup,
		"a prometheus.Collector with `group:\"metrics\"`, or a []prometheus.Collector with `group:\"metrics,flatten\"`", in.Slices)
}

// refuseMisplaced returns an error for the first of the forms, each a slice, that has anything in it.
func refuseMisplaced(group, instead string, forms ...any) error {
	for _, form := range forms {
		if v := reflect.ValueOf(form); v.Len() > 0 {
			return fmt.Errorf("%w: a %v in the group %q has no effect: provide %s", ErrInvalidOption, v.Type().Elem(), group, instead)
		}
	}
	return nil
}
