package group

import (
	"testing"
	"time"
)

// BenchmarkConsume measures how long events take that wait in the journal, and what they cost the server.
func BenchmarkConsume(b *testing.B) {
	for name, members := range map[string][]int{"one": {1}, "one with 16 at a time": {16}, "four with 4 at a time": {4, 4, 4, 4}} {
		b.Run(name, func(b *testing.B) {
			bundle := setup(b)
			bundle.run(b)() // makes the group
			bundle.append(b, "k", b.N)
			before := bundle.server.CPU(b)
			b.ResetTimer()
			start := time.Now()
			for _, concurrency := range members {
				bundle.run(b, func(s *Settings) { s.Concurrency = concurrency })
			}
			bundle.eventually(b, "not all", func() bool { return len(bundle.handled) == b.N })
			b.StopTimer()
			b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "events/s")
			b.ReportMetric(float64((bundle.server.CPU(b)-before).Microseconds())/float64(b.N), "server-µs/event")
		})
	}
}
