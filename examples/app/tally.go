package main

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Tally counts what the workers of this process did. The zero value is ready; it is safe for concurrent use.
type Tally struct {
	Workflows atomic.Int64 // brought to their end
	Steps     atomic.Int64 // done
	Retries   atomic.Int64 // steps that failed and were tried again
	Takeovers atomic.Int64 // workflows that another worker had begun
	LockWaits atomic.Int64 // tries for a lock that another worker held
	Refused   atomic.Int64 // results that came after the lock was lost, and did not count
	Published atomic.Int64 // events sent
}

// Collector shows the tally as Prometheus counters.
func (t *Tally) Collector() prometheus.Collector {
	set := collectorSet{}
	for _, c := range []struct {
		name, help string
		value      *atomic.Int64
	}{
		{"workflows_completed_total", "Workflows that this process brought to their end.", &t.Workflows},
		{"steps_completed_total", "Steps that succeeded.", &t.Steps},
		{"steps_retried_total", "Steps that failed and were tried again.", &t.Retries},
		{"workflows_taken_over_total", "Workflows that another worker had begun.", &t.Takeovers},
		{"lock_waits_total", "Tries for a lock that another worker held.", &t.LockWaits},
		{"results_refused_total", "Results of workers that had lost their lock.", &t.Refused},
		{"events_published_total", "Workflow and task events sent.", &t.Published},
	} {
		set = append(set, prometheus.NewCounterFunc(
			prometheus.CounterOpts{Namespace: "example", Name: c.name, Help: c.help},
			func() float64 { return float64(c.value.Load()) }))
	}
	return set
}

// collectorSet is several collectors as one.
type collectorSet []prometheus.Collector

func (c collectorSet) Describe(ch chan<- *prometheus.Desc) {
	for _, one := range c {
		one.Describe(ch)
	}
}

func (c collectorSet) Collect(ch chan<- prometheus.Metric) {
	for _, one := range c {
		one.Collect(ch)
	}
}
