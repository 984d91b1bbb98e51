package providers

// Names of the value groups that the module contributes to. Struct tags repeat them,
// as tags cannot refer to constants.
const (
	// HealthGroup holds every health.Check.
	HealthGroup = "health"
	// MetricsGroup holds every prometheus.Collector.
	MetricsGroup = "metrics"
	// SettingsGroup holds the settings of the unnamed instance.
	SettingsGroup = "cache.settings"
)
