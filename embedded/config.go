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

// configure makes cfg lead to s.
func (s *Server) configure(cfg *config.Config) {
	cfg.Dialer = s.Dial
	// The name is never looked up, it is what errors and logs show.
	cfg.URL, cfg.Host, cfg.Port = "", "embedded", "6379"
	cfg.Username, cfg.Password = "", ""
	// There is one server, which knows neither TLS nor Sentinel nor Cluster.
	cfg.TLSEnabled, cfg.TLSConfig = false, nil
	cfg.TLSCAFile, cfg.TLSCertFile, cfg.TLSKeyFile, cfg.TLSServerName = "", "", "", ""
	cfg.MasterName, cfg.SentinelUsername, cfg.SentinelPassword = "", "", ""
	cfg.Cluster, cfg.Addrs, cfg.LockNodes = false, nil, nil
}
