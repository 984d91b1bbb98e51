package embedded

import "github.com/compozy/cache/config"

// Config returns a configuration with which cache.SetupCache, cache.WithConfig
// or client.New talk to this server in memory. Everything else has its
// defaults. Each call returns a new one.
func (s *Server) Config() *config.Config {
	cfg := config.Default()
	s.configure(cfg)
	return cfg
}

// configure makes cfg lead to s. There is one server, without a password, which knows
// neither TLS nor Sentinel nor Cluster.
func (s *Server) configure(cfg *config.Config) {
	cfg.ForgetServer()
	cfg.Dialer = s.Dial
	// The name is never looked up, it is what errors and logs show.
	cfg.Host = "embedded"
}
