package main

import (
	"context"
	_ "embed" // the page
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/compozy/cache"
)

//go:embed page.html
var pageHTML string

// Server serves the status page, the same as JSON, the metrics and the health reports.
type Server struct {
	options Options
	board   *Board
	health  *cache.Health
	console *Console
	log     *zap.Logger
	page    *template.Template
	http    *http.Server
	done    chan struct{} // closed when nothing is served any more
}

// NewServer appends its hooks to lc.
func NewServer(
	lc fx.Lifecycle, o Options, b *Board, h *cache.Health, metrics prometheus.Gatherer, c *Console, log *zap.Logger,
) (*Server, error) {
	page, err := template.New("page").Funcs(template.FuncMap{
		"ago":   func(t, now time.Time) string { return now.Sub(t).Round(time.Second).String() },
		"clock": func(t time.Time) string { return t.Local().Format("15:04:05") },
		"class": func(e Event) string { return cssClass(e.Type) },
		"words": func(e Event) string { words, _ := describe(e); return words },
	}).Parse(pageHTML)
	if err != nil {
		return nil, err
	}
	s := &Server{options: o, board: b, health: h, console: c, log: log, page: page, done: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.status)
	mux.HandleFunc("GET /state.json", s.state)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	for _, path := range []string{"/livez", "/readyz", "/healthz"} {
		mux.Handle(path, h.Handler())
	}
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	lc.Append(fx.StartStopHook(s.Start, s.Stop))
	return s, nil
}

// Start listens, and prints where.
func (s *Server) Start(ctx context.Context) error {
	listener, err := s.listen(ctx)
	if err != nil {
		return fmt.Errorf("status page: %w", err)
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("status page", zap.Error(err))
		}
	}()
	s.console.Sayf("status page http://%s/  also /metrics /livez /readyz /healthz /state.json", listener.Addr())
	return nil
}

func (s *Server) listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", s.options.Addr)
	if errors.Is(err, syscall.EADDRINUSE) && !s.options.fixedAddr {
		return lc.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	return listener, err
}

// Stop answers the requests that are there, within the time that ctx leaves, then closes.
func (s *Server) Stop(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.done
	return err
}

// status is the page for people.
func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	err := s.page.Execute(w, struct {
		Picture
		Health any
	}{s.board.Picture(), s.health.Run(r.Context())})
	if err != nil {
		s.log.Debug("status page", zap.Error(err)) // as a rule the browser has left
	}
}

// state is the same for programs.
func (s *Server) state(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(s.board.Picture()); err != nil {
		s.log.Debug("state", zap.Error(err))
	}
}

// cssClass gives events their colour on the page.
func cssClass(t EventType) string {
	switch t {
	case WorkflowStarted:
		return "started"
	case WorkflowResumed:
		return "resumed"
	case WorkflowDone:
		return "completed"
	case StepFailed:
		return "failed"
	case StepDone:
	}
	return ""
}
