package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/compozy/cache"
	"github.com/compozy/cache/notification/sse"
)

//go:embed web
var web embed.FS

// liveEvents is the pattern of the channels on which all events of workflows and tasks are: workflow:events, task:events.
const liveEvents = "*:events"

// policy lets the page use what this server has, and nothing from elsewhere.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Server serves the page. What the page shows comes from /state.json and, as it happens, from /events; the rest of the
// server is what every service can have from the module: metrics and health reports.
type Server struct {
	in    serverParams
	http  *http.Server
	hasty context.CancelFunc // ends the streams of events, which would go on for as long as the browsers like
	done  chan struct{}      // closed when nothing is served any more
}

// serverParams are what Fx puts together for NewServer.
type serverParams struct {
	fx.In

	Options  Options
	Board    *Board
	Pulse    *Pulse
	Presence *Presence
	Breakage *Breakage
	Diary    *Diary
	Events   *cache.RedisNotificationSystem
	Health   *cache.Health
	Metrics  prometheus.Gatherer
	Console  *Console
	Log      *zap.Logger
}

// View is all that the page shows, at one moment.
type View struct {
	Picture
	Vitals

	Processes []Process `json:"processes"`
	Diary     []Entry   `json:"diary"`
	Buttons   []Button  `json:"buttons"`
	WhyNot    string    `json:"why_not,omitempty"` // there are not more buttons
}

// NewServer appends its hooks to lc.
func NewServer(lc fx.Lifecycle, p serverParams) (*Server, error) {
	files, err := fs.Sub(web, "web")
	if err != nil {
		return nil, err
	}
	s := &Server{in: p, done: make(chan struct{})}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServerFS(files))
	mux.HandleFunc("GET /state.json", s.state)
	mux.Handle("GET /events", sse.Handler(p.Events, func(*http.Request) (string, error) { return liveEvents, nil }, sse.WithLogger(p.Log)))
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.Metrics, promhttp.HandlerOpts{}))
	for _, path := range []string{"/livez", "/readyz", "/healthz"} {
		mux.Handle(path, p.Health.Handler())
	}
	mux.HandleFunc("POST /break/{what}", s.press)

	// A page of somebody else must not press the buttons.
	guarded := http.NewCrossOriginProtection().Handler(secured(mux))
	var ctx context.Context
	ctx, s.hasty = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler: guarded, ReadHeaderTimeout: 5 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	if !p.Options.Helper {
		lc.Append(fx.StartStopHook(s.Start, s.Stop))
	}
	return s, nil
}

// secured sets the headers that all responses have in common.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
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
			s.in.Log.Error("status page", zap.Error(err))
		}
	}()
	s.in.Console.Sayf("status page http://%s/  also /metrics /livez /readyz /healthz /state.json", listener.Addr())
	return nil
}

func (s *Server) listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", s.in.Options.Addr)
	if errors.Is(err, syscall.EADDRINUSE) && !s.in.Options.fixedAddr {
		return lc.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	return listener, err
}

// Stop ends the streams, answers the other requests that are there, within the time that ctx leaves, then closes.
func (s *Server) Stop(ctx context.Context) error {
	s.hasty()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.done
	return err
}

// state is what the page shows.
func (s *Server) state(w http.ResponseWriter, _ *http.Request) {
	view := View{
		Picture: s.in.Board.Picture(), Vitals: s.in.Pulse.Vitals(), Processes: s.in.Presence.Processes(), Diary: s.in.Diary.Entries(),
	}
	view.Buttons, view.WhyNot = s.in.Breakage.Buttons()
	s.answer(w, http.StatusOK, view)
}

// press breaks something.
func (s *Server) press(w http.ResponseWriter, r *http.Request) {
	err := s.in.Breakage.Press(r.Context(), r.PathValue("what"))
	switch {
	case err == nil:
		s.answer(w, http.StatusOK, struct{}{})
	case errors.Is(err, errNotHere):
		http.Error(w, err.Error(), http.StatusNotFound)
	default:
		s.answer(w, http.StatusOK, map[string]string{"instead": err.Error()})
	}
}

func (s *Server) answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.in.Log.Debug("status page", zap.Error(err)) // as a rule the browser has left
	}
}
