package health

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// Handler serves /livez, /readyz and /healthz, and 404 for everything else. To
// put them below a prefix, wrap it in http.StripPrefix.
func (h *Health) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/livez", h.LivezHandler())
	mux.Handle("/readyz", h.ReadyzHandler())
	mux.Handle("/healthz", h.HealthzHandler())
	return mux
}

// LivezHandler answers, on any path, with the report of the liveness checks:
// 200 when all succeed or there are none, 503 when one fails. GET and HEAD are
// allowed, other methods get 405.
func (h *Health) LivezHandler() http.Handler { return h.handler(Liveness) }

// ReadyzHandler is like LivezHandler, with the readiness checks.
func (h *Health) ReadyzHandler() http.Handler { return h.handler(Readiness) }

// HealthzHandler is like LivezHandler, with all checks. It is meant for people
// and dashboards; an orchestrator should use the other two.
func (h *Health) HealthzHandler() http.Handler { return h.handler(Liveness, Readiness) }

func (h *Health) handler(kinds ...Kind) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		// A proxy that answers from its cache would hide an outage, or its end.
		header.Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			header.Set("Allow", "GET, HEAD")
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
			return
		}
		report := h.Run(r.Context(), kinds...)
		body, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			http.Error(w, "health: encoding the report failed", http.StatusInternalServerError)
			return
		}
		body = append(body, '\n')
		header.Set("Content-Type", "application/json; charset=utf-8")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Content-Length", strconv.Itoa(len(body)))
		code := http.StatusOK
		if report.Status != OK {
			code = http.StatusServiceUnavailable
		}
		w.WriteHeader(code)
		if r.Method == http.MethodGet {
			// The only error is a client that left; nobody can be reached.
			_, _ = w.Write(body)
		}
	})
}
