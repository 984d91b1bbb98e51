package health_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/compozy/cache/health"
)

// Serve /livez, /readyz and /healthz next to the rest of an application.
func ExampleHealth_Handler() {
	h := health.New(
		health.Check{Name: "redis", Kind: health.Readiness, Timeout: 500 * time.Millisecond,
			Func: func(context.Context) error { return errors.New("connection refused") }},
		health.Check{Name: "worker", Kind: health.Liveness,
			Func: func(context.Context) error { return nil }},
	)
	mux := http.NewServeMux()
	mux.Handle("/", h.Handler())

	// What an orchestrator does every few seconds:
	for _, path := range []string{"/livez", "/readyz"} {
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		fmt.Println(path, rec.Code)
	}
	// Output:
	// /livez 200
	// /readyz 503
}

// Ask without HTTP, for instance in a command-line tool.
func ExampleHealth_Run() {
	h := health.New(
		health.Check{Name: "disk", Func: func(context.Context) error { return errors.New("disk full") }},
		health.Check{Name: "redis", Func: func(context.Context) error { return nil }},
	)
	report := h.Run(context.Background())
	for _, c := range report.Checks {
		fmt.Printf("%s: %s\n", c.Name, c.Status)
	}
	fmt.Println(report.Err())
	// Output:
	// disk: failing
	// redis: ok
	// health: disk: disk full
}
