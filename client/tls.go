package client

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/config"
)

// tlsConfig returns the TLS settings of the main server, or nil for plain text.
// fromURL is what a rediss:// URL asked for, if anything.
func tlsConfig(cfg *config.Config, fromURL *redis.Options) (*tls.Config, error) {
	if cfg.TLSConfig != nil {
		return cfg.TLSConfig.Clone(), nil
	}
	if !cfg.UsesTLS() {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if fromURL != nil && fromURL.TLSConfig != nil {
		// Its server name is the host, which is also our default.
		out.InsecureSkipVerify = fromURL.TLSConfig.InsecureSkipVerify
	}
	return out, addFiles(out, cfg)
}

// addFiles adds CA, client certificate and server name to out.
func addFiles(out *tls.Config, cfg *config.Config) error {
	if cfg.TLSServerName != "" {
		out.ServerName = cfg.TLSServerName
	}
	if cfg.TLSCAFile != "" {
		pem, err := os.ReadFile(cfg.TLSCAFile)
		if err != nil {
			return fmt.Errorf("client: read CA file: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("client: no certificate in CA file %s", cfg.TLSCAFile)
		}
	}
	if cfg.TLSCertFile != "" {
		cert, err := tls.LoadX509KeyPair(cfg.TLSCertFile, cfg.TLSKeyFile)
		if err != nil {
			return fmt.Errorf("client: load client certificate: %w", err)
		}
		out.Certificates = []tls.Certificate{cert}
	}
	return nil
}

// withServerName returns cfg with the name to verify: the one it has, or the host
// of the address being dialled, which differs between the nodes of a Cluster.
func withServerName(cfg *tls.Config, addr string) *tls.Config {
	if cfg.ServerName != "" {
		return cfg
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	out := cfg.Clone()
	out.ServerName = host
	return out
}
