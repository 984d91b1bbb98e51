package redistest

import (
	"crypto/tls"
	"net/url"
	"strconv"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Host returns the host the server listens on, an address of the loopback interface.
func (s *Server) Host() string { return loopback }

// Port returns the port the server listens on; it stays the same after Restart.
func (s *Server) Port() string { return strconv.Itoa(s.port.number) }

// Addr returns host and port.
func (s *Server) Addr() string { return address(s.port.number) }

// URL returns the server's address in the form that redis.ParseURL reads, with
// user and password if they are demanded. Its scheme is rediss with TLS.
func (s *Server) URL() string {
	location := url.URL{Scheme: "redis", Host: s.Addr(), Path: "/0"}
	if s.security != nil {
		location.Scheme = "rediss"
	}
	if username, password := s.credentials(); password != "" {
		location.User = url.UserPassword(username, password)
	}
	return location.String()
}

// credentials returns what a client must send; the user name is empty for the
// default user, the password if none is demanded.
func (s *Server) credentials() (username, password string) {
	if s.sentinel {
		return "", s.settings.sentinelPassword
	}
	return s.settings.username, s.settings.password
}

// Options returns what a plain go-redis client needs to connect: address,
// credentials, TLS. The caller may change the result.
func (s *Server) Options() *redis.Options {
	username, password := s.credentials()
	return &redis.Options{
		Addr:      s.Addr(),
		Username:  username,
		Password:  password,
		TLSConfig: s.TLSConfig(),
		// The server does not know these notifications; asking for them would
		// cost a command for each connection.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// Client returns a plain go-redis client, which is closed when the test ends.
func (s *Server) Client(t TB) *redis.Client {
	t.Helper()
	client := redis.NewClient(s.Options())
	t.Cleanup(func() { _ = client.Close() }) // the test may have closed it
	return client
}

// TLSConfig returns a client's configuration that trusts the server and
// carries a client certificate, or nil if the server does not speak TLS.
func (s *Server) TLSConfig() *tls.Config {
	if s.security == nil {
		return nil
	}
	return s.security.client.Clone()
}

// CAFile returns the file with the authority's certificate; empty without TLS.
func (s *Server) CAFile() string {
	if s.security == nil {
		return ""
	}
	return s.security.caFile
}

// CertFile returns the file with a certificate for clients; empty without TLS.
func (s *Server) CertFile() string {
	if s.security == nil {
		return ""
	}
	return s.security.clientCert
}

// KeyFile returns the file with the key of CertFile; empty without TLS.
func (s *Server) KeyFile() string {
	if s.security == nil {
		return ""
	}
	return s.security.clientKey
}
