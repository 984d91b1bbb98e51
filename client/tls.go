package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	neturl "net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/internal/smallfile"
)

// security is how an endpoint speaks TLS. Certificates may be replaced at any time, so their
// files are read for each new connection.
type security struct {
	config        *tls.Config // with what the files held at first
	ca, cert, key string      // files, "" if there are none
	custom        bool        // config is a copy of the Config's TLSConfig
}

// newSecurity returns how to speak TLS with the settings of cfg. The option skip_verify of a
// URL, which is raw and parsed if there is one, wins over TLSSkipVerify. A TLSConfig wins over
// both: it may insist on a verification that a URL must not switch off.
func newSecurity(cfg *config.Config, raw string, parsed *redis.Options) (*security, error) {
	if cfg.TLSConfig != nil {
		custom := cfg.TLSConfig.Clone()
		if custom.ClientSessionCache != nil {
			// A server sends its tickets after the handshake: the application's cache would run within the read of a reply, in
			// a goroutine of go-redis.
			custom.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		}
		return &security{config: custom, custom: true}, nil
	}
	skip := cfg.TLSSkipVerify
	if parsed != nil && parsed.TLSConfig != nil {
		if u, err := neturl.Parse(raw); err == nil && u.Query().Has("skip_verify") {
			skip = parsed.TLSConfig.InsecureSkipVerify
		}
	}
	s := &security{
		config: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			ServerName:         cfg.TLSServerName,
			InsecureSkipVerify: skip, //nolint:gosec // a setting, off unless asked for
		},
		ca: cfg.TLSCAFile, cert: cfg.TLSCertFile, key: cfg.TLSKeyFile,
	}
	return s, s.readFiles(s.config)
}

// handshake makes conn, which leads to addr, a TLS connection. If it fails conn is closed.
func (s *security) handshake(ctx context.Context, conn net.Conn, addr string) (secure net.Conn, err error) {
	defer func() { // also when a function of TLSConfig panics
		if secure == nil {
			_ = conn.Close()
		}
	}()
	settings := s.forDial(addr)
	if err := s.readFiles(settings); err != nil {
		return nil, err
	}
	client := tls.Client(conn, settings)
	if err := client.HandshakeContext(ctx); err != nil {
		if !isNetwork(err) {
			err = handshakeError{err}
		}
		return nil, reachedError{err}
	}
	return client, nil
}

// reachedError is an error that came between the connection to the server and its first command: of a handshake, or of a source
// of credentials.
type reachedError struct{ error }

func (e reachedError) Unwrap() error { return e.error }

// isUnreached reports whether err says that there was no connection to the server. A sentinel that gives no answer may have been
// silent in a handshake.
func isUnreached(err error) bool {
	_, reached := errors.AsType[reachedError](err)
	_, silent := errors.AsType[silence](err)
	return !reached && !silent && redisx.IsUnsent(err)
}

// handshakeError is an error of a handshake that has no type to tell it from others: of settings
// that contradict each other, of a server that chose what was not offered, or of a function of TLSConfig.
type handshakeError struct{ error }

func (e handshakeError) Unwrap() error { return e.error }

// forDial returns a copy of the settings with the name to verify: the one they have, or
// the host of addr, which differs between the nodes of a Cluster. The zone of an IPv6
// address means something on this machine only, and is in no certificate.
func (s *security) forDial(addr string) *tls.Config {
	out := s.config.Clone()
	if out.ServerName != "" {
		return out
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	out.ServerName, _, _ = strings.Cut(host, "%")
	return out
}

// readFiles puts what the files hold into out.
func (s *security) readFiles(out *tls.Config) error {
	if s.ca != "" {
		pem, err := smallfile.Read(s.ca, smallfile.PEM)
		if err != nil {
			return fmt.Errorf("client: CA file %s %w", s.ca, err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("client: no certificate in CA file %s", s.ca)
		}
	}
	if s.cert == "" {
		return nil
	}
	pair, err := s.readPair()
	if err != nil {
		// A rotation may have replaced one of the two between the reads.
		pair, err = s.readPair()
	}
	out.Certificates = []tls.Certificate{pair}
	return err
}

// readPair reads the client certificate and its key.
func (s *security) readPair() (pair tls.Certificate, err error) {
	cert, err := smallfile.Read(s.cert, smallfile.PEM)
	if err != nil {
		return pair, fmt.Errorf("client: client certificate %s %w", s.cert, err)
	}
	key, err := smallfile.Read(s.key, smallfile.PEM)
	if err != nil {
		return pair, fmt.Errorf("client: key of client certificate %s %w", s.key, err)
	}
	if pair, err = tls.X509KeyPair(cert, key); err != nil {
		return pair, fmt.Errorf("client: client certificate %s with key %s: %w", s.cert, s.key, err)
	}
	return pair, nil
}

// isHandshakeError recognises a failed handshake, as opposed to a network that failed.
func isHandshakeError(err error) bool {
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, other := errors.AsType[handshakeError](err)
	return verify || record || other || isAlert(err)
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
	// The type of an alert does not say which one it is. A server whose certificate does not
	// please us hears of that from us, so what it says itself is about ours.
	text, alert := err.Error(), isAlert(err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, name := errors.AsType[x509.HostnameError](err)
	certificate := "TLSCertFile and TLSKeyFile (REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE)"
	if e.tls.custom {
		certificate = "Certificates of TLSConfig"
	}
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
	case alert && strings.Contains(text, "remote error: tls: certificate required"):
		return "the server wants a client certificate: set " + certificate
	case !alert || !strings.Contains(text, "remote error: tls: "):
		return ""
	case strings.Contains(text, "certificate") && e.tls.hasCertificate():
		return "the server refuses the client certificate: check " + certificate
	case strings.Contains(text, "certificate"), strings.Contains(text, "handshake failure") && !e.tls.hasCertificate(): // TLS 1.2
		return "the server may want a client certificate: set " + certificate
	default:
		return ""
	}
}

// switchAdvice says how to turn TLS on where it is off, or off where it is on.
func (e *endpoint) switchAdvice() string {
	on := e.tls == nil
	switch {
	case e.lockNode && on:
		return "use a rediss:// URL for it in LockNodes (REDIS_LOCK_NODES)"
	case e.lockNode:
		return "use a redis:// URL for it in LockNodes (REDIS_LOCK_NODES)"
	case on:
		return "use rediss:// or REDIS_TLS=true"
	case e.tls.custom:
		return "use redis:// without TLSConfig"
	default:
		return "use redis:// without REDIS_TLS"
	}
}

// hasCertificate reports whether there is a client certificate.
func (s *security) hasCertificate() bool {
	return len(s.config.Certificates) > 0 || s.config.GetClientCertificate != nil
}

// tlsTrouble asks the server over connections of its own whether TLS is why a check failed
// with err, and returns what it finds, or nil:
//
//	we speak  the check met                  the question                     TLS is why if
//	plain     no end of its time             none                             -
//	plain     anything else                  a handshake                      it succeeds, or ends with an alert
//	TLS       no TLS record, or no answer    PING without TLS                 it is answered
//	TLS       an error of the handshake      none, as it says what is wrong   -
//	TLS       anything else                  a handshake, and nothing sent    it ends with an alert
//
// It asks no server that was not reached, that replied, or that was well before.
func (s *server) tlsTrouble(ctx context.Context, err error) error {
	if s.fit.Load() || redisx.IsReply(err) || isUnreached(err) {
		return nil
	}
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	late := isContext(err)
	for _, addr := range s.endpoint.addrs {
		switch {
		case s.endpoint.tls == nil:
			if !late && s.takesHandshake(ctx, addr) {
				return s.endpoint.advised("the server seems to speak TLS: "+s.endpoint.switchAdvice(), nil)
			}
		case noTLS, late: // Redis without TLS may give no answer to a handshake
			if b, err := s.firstByte(ctx, s.plain, addr, ping); err == nil && (b == '+' || b == '-') {
				return s.endpoint.advised("the server does not speak TLS: "+s.endpoint.switchAdvice(), nil)
			}
		case !isHandshakeError(err):
			if alert := s.alert(ctx, addr); isAlert(alert) {
				return s.endpoint.advised(s.endpoint.tlsAdvice(alert), alert)
			}
		}
	}
	return nil
}

// handshakeTime is how long takesHandshake and alert wait for a server that has nothing to say: two round trips over a link
// on which each takes half a second.
const handshakeTime = time.Second

// takesHandshake reports whether the server at addr speaks TLS, as one that asks for a
// certificate does too. Nothing is sent to it: whose it is does not matter.
func (s *server) takesHandshake(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	conn, err := s.plain(ctx, s.endpoint.network, addr)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	err = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) //nolint:gosec // see above
	return err == nil || isAlert(err)
}

// alert returns how a connection to addr ends on which nothing is sent. With TLS 1.3 a server
// refuses our certificate when we may have sent a command already, and its alert is lost when
// it closes the connection over that. Here it arrives.
func (s *server) alert(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	_, err := s.firstByte(ctx, s.dial, addr, "")
	return err
}

// ping is a request in the form that people type.
const ping = "PING\r\n"

// firstByte sends request over a new connection to an address of s, made by dial, and returns
// how the answer begins: with a plus or a minus, if the server speaks the protocol of Redis in
// the way that dial does. It returns the error of ctx if that ends first.
func (s *server) firstByte(ctx context.Context, dial dialFunc, addr, request string) (byte, error) {
	conn, err := dial(ctx, s.endpoint.network, addr)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	reply := make([]byte, 1)
	if _, err = io.WriteString(conn, request); err == nil {
		_, err = io.ReadFull(conn, reply)
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return reply[0], err
}
