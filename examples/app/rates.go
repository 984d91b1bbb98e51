package main

import "github.com/prometheus/client_golang/prometheus"

// Counters are some of the metrics that the module counts in this process.
type Counters struct {
	Fresh  float64 `json:"fresh"`  // customers that the cache had
	Loaded float64 `json:"loaded"` // that the database was asked for
	Stale  float64 `json:"stale"`  // served past their time, as the database failed
	None   float64 `json:"none"`   // not to be had

	Published float64 `json:"published"`
	Recovered float64 `json:"recovered"` // events from the journal, after a cut
	LocksLost float64 `json:"locks_lost"`
}

// readCounters takes what a page wants to show out of all metrics. A dashboard would ask Prometheus.
func readCounters(from prometheus.Gatherer) (Counters, error) {
	families, err := from.Gather() // what could be gathered is there, even if there is an error
	var c Counters
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if into := c.field(family.GetName(), labels); into != nil {
				*into += m.GetCounter().GetValue()
			}
		}
	}
	return c, err
}

// field returns where a metric is counted, nil if nowhere.
func (c *Counters) field(name string, labels map[string]string) *float64 {
	switch name {
	case "cache_notification_published_total":
		return &c.Published
	case "cache_notification_recovered_total":
		return &c.Recovered
	case "cache_lock_lost_total":
		return &c.LocksLost
	case "cache_store_requests_total":
		if labels["name"] != "customers" {
			return nil
		}
		switch labels["source"] {
		case "near", "redis":
			return &c.Fresh
		case "loaded":
			return &c.Loaded
		case "stale":
			return &c.Stale
		default:
			return &c.None
		}
	}
	return nil
}

// since returns what was counted after an earlier reading.
func (c Counters) since(earlier Counters) Counters {
	return Counters{
		Fresh: c.Fresh - earlier.Fresh, Loaded: c.Loaded - earlier.Loaded, Stale: c.Stale - earlier.Stale, None: c.None - earlier.None,
		Published: c.Published - earlier.Published, Recovered: c.Recovered - earlier.Recovered, LocksLost: c.LocksLost - earlier.LocksLost,
	}
}
