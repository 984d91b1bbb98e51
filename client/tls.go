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
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/internal/smallfile"
)

// security is how an endpoint speaks TLS. Certificates may be replaced at any time, so
// their files are read for each new connection.
type security struct {
	// config is what does not change, together with what the files held at first.
	config *tls.Config
	files  *tlsFiles // nil if there are none
	custom bool      // config is a copy of the Config's TLSConfig
}

// mainSecurity returns the TLS settings of the main server, or nil for plain text.
// fromURL is the parsed URL, if there is one.
func mainSecurity(cfg *config.Config, fromURL *redis.Options) (*security, error) {
	switch {
	case cfg.TLSConfig != nil:
		return &security{config: cfg.TLSConfig.Clone(), custom: true}, nil
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
		s := &security{config: cfg.TLSConfig.Clone(), custom: true}
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
	u, err := url.Parse(raw)
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
	pem, err := smallfile.Read(f.ca, smallfile.PEM)
	if err != nil {
		return fmt.Errorf("client: CA file %s %w", f.ca, err)
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
	cert, err := smallfile.Read(f.cert, smallfile.PEM)
	if err != nil {
		return fmt.Errorf("client: client certificate %s %w", f.cert, err)
	}
	key, err := smallfile.Read(f.key, smallfile.PEM)
	if err != nil {
		return fmt.Errorf("client: key of client certificate %s %w", f.key, err)
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

// isTLS recognises a failed handshake, as opposed to a network that failed.
func isTLS(err error) bool {
	var (
		verify *tls.CertificateVerificationError
		record tls.RecordHeaderError
		host   x509.HostnameError
	)
	return errors.As(err, &verify) || errors.As(err, &record) || errors.As(err, &host) || isAlert(err)
}

// isAlert recognises an alert of TLS, such as "certificate required"; its own type is
// not exported. With TLS 1.3 it may arrive after the handshake, as the answer to the
// first command.
func isAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && (op.Op == "remote error" || op.Op == "local error")
}

// tlsAdvice says which setting to look at after a handshake that failed, or "".
func (e *endpoint) tlsAdvice(err error) string {
	if e.tls == nil {
		return ""
	}
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, name := errors.AsType[x509.HostnameError](err)
	// The type of an alert does not say which one it is.
	certificate := isAlert(err) && strings.Contains(err.Error(), "certificate required")
	switch {
	case authority && e.tls.custom:
		return "set RootCAs of TLSConfig"
	case authority:
		return "set TLSCAFile (REDIS_TLS_CA_FILE)"
	case name && e.ownURL:
		return "use a name of the certificate as host of its URL in LockNodes (REDIS_LOCK_NODES)"
	case name && e.tls.custom:
		return "set ServerName of TLSConfig to a name of the certificate"
	case name:
		return "set TLSServerName (REDIS_TLS_SERVER_NAME) to a name of the certificate"
	case certificate && e.tls.custom:
		return "set Certificates of TLSConfig"
	case certificate:
		return "set TLSCertFile and TLSKeyFile (REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE)"
	default:
		return ""
	}
}

// speaksTLS reports whether the server takes a TLS handshake, where plain text was
// spoken and err was what came of it. It does not ask a server that was not reached,
// or that is merely slow.
func (s *server) speaksTLS(ctx context.Context, err error) bool {
	if s.endpoint.tls != nil || redisx.IsReply(err) || isContext(err) || isDial(err) {
		return false
	}
	return slices.ContainsFunc(s.endpoint.addrs, func(addr string) bool {
		conn, err := s.plain(ctx, s.endpoint.network, addr)
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close() }()
		// Nothing is sent over this connection: whose it is does not matter. A server
		// that asks for a certificate speaks TLS too.
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // see above
		err = secure.HandshakeContext(ctx)
		return err == nil || isAlert(err)
	})
}

// speaksPlain reports whether the server answers in plain text, where a handshake got
// an answer that is none, or no answer, as err says.
func (s *server) speaksPlain(ctx context.Context, err error) bool {
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	if s.endpoint.tls == nil || s.reached.Load() || !noTLS && !isContext(err) {
		return false
	}
	return slices.ContainsFunc(s.endpoint.addrs, func(addr string) bool {
		b, err := firstByte(ctx, s.plain, s.endpoint.network, addr)
		return err == nil && (b == '+' || b == '-')
	})
}

// isDial reports whether err means that no connection was made.
func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}
