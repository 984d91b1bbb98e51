// Package health runs checks and answers the probes of an orchestrator.
//
// # Readiness and liveness
//
// A check is of one of two kinds, which differ in what a failure causes.
// A failed [Readiness] check takes the instance out of traffic until it
// succeeds again; whether a server such as Redis can be reached is readiness.
// A failed [Liveness] check has the process killed and started again; it should
// ask only about what a restart mends, such as a goroutine of one's own that
// ended. A liveness check that needs the network turns an outage of the network
// into restarts of everything.
//
// # Use
//
//	h := health.New(
//		health.Check{Name: "redis", Kind: health.Readiness, Func: client.HealthCheck},
//		health.Check{Name: "worker", Kind: health.Liveness, Func: worker.Alive},
//	)
//	mux.Handle("/", h.Handler()) // or LivezHandler, ReadyzHandler, HealthzHandler
//
// [Health.Handler] serves three paths: /livez runs the liveness checks, /readyz
// the readiness checks, /healthz both. The answer is 200 when all of them
// succeed, 503 when one fails, and in either case this JSON:
//
//	{
//	  "status": "failing",
//	  "time": "2026-01-02T03:04:05.678Z",
//	  "checks": [
//	    {"name": "redis", "kind": "readiness", "status": "failing", "error": "connection refused", "latency_ms": 0.412}
//	  ]
//	}
//
// A check that succeeds may have [Check.Warnings], such as a server's setting that will
// hurt later. They stand in its entry as "warnings", a list of texts, and change
// neither status nor code.
//
// # What a bad check cannot do
//
// Checks run concurrently, each with a timeout of its own, so the report takes
// no longer than the longest timeout. A check that panics has failed. A check
// that ignores its context is reported as failed when its timeout is over, and
// while it hangs it is not started again: however often one probes, there is at
// most one goroutine per check, and probes that come at the same time share it.
//
// This package knows nothing of Fx and imports only the standard library.
package health
