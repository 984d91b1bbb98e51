package client

import (
	"context"
	"errors"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// What metrics show beside counts: versions, and how the last check went.

// modulePath is what this module is called in a go.mod.
const modulePath = "github.com/compozy/cache"

// moduleVersion returns the version of this module that the program was built with, such as v0.1.0; "(devel)" in a
// work tree, and "" if the program does not say.
func moduleVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path != modulePath {
			continue
		}
		if m.Replace != nil && m.Replace.Version != "" {
			return m.Replace.Version
		}
		return m.Version
	}
	return ""
}

// productVersion returns what the server said of itself in the last check that succeeded, such as "Redis 7.0.15"; ""
// before, and if it does not say. In a Cluster it is one of the masters.
func (s *server) productVersion() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ToValidUTF8(s.version, "?")
}

// verdict is how the last check went. Safe for concurrent use.
type verdict struct{ is atomic.Int32 }

// Values of a verdict; 0 is that there was no check.
const (
	failed    = 1
	succeeded = 2
)

// of asks a question and notes how that went, unless there is no time for it at all.
func (v *verdict) of(ctx context.Context, question func(context.Context) error) error {
	ended := ctx.Err() != nil // nothing is asked then
	err := question(ctx)
	if !ended {
		v.note(ctx, err)
	}
	return err
}

// note remembers how a check went, unless its caller gave it up. Time that is over is no reason: a server that hangs is
// noticed by nothing else.
func (v *verdict) note(ctx context.Context, err error) {
	switch {
	case err == nil:
		v.is.Store(succeeded)
	case !errors.Is(ctx.Err(), context.Canceled):
		v.is.Store(failed)
	}
}

// collect emits the verdict, if there is one.
func (v *verdict) collect(ch chan<- prometheus.Metric, d *prometheus.Desc, server string) {
	switch v.is.Load() {
	case failed:
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, 0, server)
	case succeeded:
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, 1, server)
	}
}
