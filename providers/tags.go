package providers

import "fmt"

// Names of the value groups that the module contributes to.
const (
	// HealthGroup holds every health.Check.
	HealthGroup = "health"
	// MetricsGroup holds every prometheus.Collector.
	MetricsGroup = "metrics"
	// SettingsGroup holds the settings of the unnamed instance.
	SettingsGroup = "cache.settings"
)

const optional = `optional:"true"`

func group(name string) string { return fmt.Sprintf(`group:%q`, name) }

func flatten(name string) string { return fmt.Sprintf(`group:"%s,flatten"`, name) }

// tag is the tag of a value of the instance called name. The unnamed instance,
// whose name is empty, has none.
func tag(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(`name:%q`, name)
}
