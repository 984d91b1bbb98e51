package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/config"
)

// security is how an endpoint speaks TLS. Certificates may be replaced at any time, so
// their files are read for each new connection.
type security struct {
	// config is what does not change, together with what the files held at first.
	config *tls.Config
	files  *tlsFiles // nil if there are none
}

// mainSecurity returns the TLS settings of the main server, or nil for plain text.
// fromURL is the parsed URL, if there is one.
func mainSecurity(cfg *config.Config, fromURL *redis.Options) (*security, error) {
	switch {
	case cfg.TLSConfig != nil:
		return &security{config: cfg.TLSConfig.Clone()}, nil
	case !cfg.UsesTLS():
		return nil, nil
	}
	s, err := newSecurity(cfg)
	if err != nil {
		return nil, err
	}
	s.config.ServerName = cfg.TLSServerName
	if fromURL != nil {
		s.applyURL(cfg.URL, fromURL)
	}
	return s, nil
}

// urlSecurity returns the TLS settings of a lock node given as URL, or nil for plain
// text. The name to verify is that of the node.
func urlSecurity(cfg *config.Config, raw string, fromURL *redis.Options) (*security, error) {
	if fromURL.TLSConfig == nil {
		return nil, nil
	}
	if cfg.TLSConfig != nil {
		s := &security{config: cfg.TLSConfig.Clone()}
		s.config.ServerName = ""
		s.applyURL(raw, fromURL)
		return s, nil
	}
	s, err := newSecurity(cfg)
	if err != nil {
		return nil, err
	}
	s.applyURL(raw, fromURL)
	return s, nil
}

// newSecurity reads the files that cfg names.
func newSecurity(cfg *config.Config) (*security, error) {
	s := &security{config: &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: cfg.TLSSkipVerify, //nolint:gosec // a setting, off unless asked for
	}}
	if cfg.TLSCAFile == "" && cfg.TLSCertFile == "" {
		return s, nil
	}
	s.files = &tlsFiles{ca: cfg.TLSCAFile, cert: cfg.TLSCertFile, key: cfg.TLSKeyFile}
	return s, s.files.apply(s.config)
}

// applyURL lets the option skip_verify of a URL win over the settings.
func (s *security) applyURL(raw string, parsed *redis.Options) {
	u, err := parseRaw(raw)
	if err == nil && parsed.TLSConfig != nil && u.Query().Has("skip_verify") {
		s.config.InsecureSkipVerify = parsed.TLSConfig.InsecureSkipVerify
	}
}

// forDial returns the settings for a connection to addr: with the present content of
// the files, and with the name to verify.
func (s *security) forDial(addr string) (*tls.Config, error) {
	if s.files == nil {
		return withServerName(s.config, addr), nil
	}
	out := s.config.Clone()
	if err := s.files.apply(out); err != nil {
		return nil, err
	}
	return withServerName(out, addr), nil
}

// handshake makes conn, which leads to addr, a TLS connection. It leaves conn to the
// caller if it fails.
func (s *security) handshake(ctx context.Context, conn net.Conn, addr string) (net.Conn, error) {
	settings, err := s.forDial(addr)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, settings)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return secure, nil
}

// tlsFiles are the files with a CA and a client certificate, either of which may be
// missing. What was read last is kept: parsing costs more than reading.
type tlsFiles struct {
	ca, cert, key string // paths

	mu                     sync.Mutex // protects what follows
	caPEM, certPEM, keyPEM []byte
	roots                  *x509.CertPool
	pair                   tls.Certificate
}

// apply reads the files and puts what they hold into out.
func (f *tlsFiles) apply(out *tls.Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ca != "" {
		if err := f.readCA(); err != nil {
			return err
		}
		out.RootCAs = f.roots
	}
	if f.cert == "" {
		return nil
	}
	err := f.readPair()
	if err != nil {
		// A rotation may have replaced one of the two between the reads.
		err = f.readPair()
	}
	if err != nil {
		return err
	}
	out.Certificates = []tls.Certificate{f.pair}
	return nil
}

// readCA reads the certificate authorities.
func (f *tlsFiles) readCA() error {
	pem, err := os.ReadFile(f.ca)
	if err != nil {
		return fmt.Errorf("client: read CA file: %w", err)
	}
	if bytes.Equal(pem, f.caPEM) {
		return nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("client: no certificate in CA file %s", f.ca)
	}
	f.caPEM, f.roots = pem, roots
	return nil
}

// readPair reads the client certificate and its key.
func (f *tlsFiles) readPair() error {
	cert, err := os.ReadFile(f.cert)
	if err != nil {
		return fmt.Errorf("client: read client certificate: %w", err)
	}
	key, err := os.ReadFile(f.key)
	if err != nil {
		return fmt.Errorf("client: read key of client certificate: %w", err)
	}
	if bytes.Equal(cert, f.certPEM) && bytes.Equal(key, f.keyPEM) {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("client: client certificate %s with key %s: %w", f.cert, f.key, err)
	}
	f.certPEM, f.keyPEM, f.pair = cert, key, pair
	return nil
}

// withServerName returns cfg with the name to verify: the one it has, or the host
// of the address being dialled, which differs between the nodes of a Cluster. The
// zone of an IPv6 address means something on this machine only, and is in no
// certificate.
func withServerName(cfg *tls.Config, addr string) *tls.Config {
	if cfg.ServerName != "" {
		return cfg
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	out := cfg.Clone()
	out.ServerName, _, _ = strings.Cut(host, "%")
	return out
}

// parseRaw parses a URL and drops the cause of a failure, which quotes it.
func parseRaw(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("client: malformed URL")
	}
	return u, nil
}
