package config

import (
	"crypto/tls"
	"crypto/x509"
	"slices"

	"github.com/compozy/cache/internal/smallfile"
)

// UsesTLS reports whether connections to the main server use TLS, which TLSEnabled, a
// TLSConfig, or a rediss:// or valkeys:// URL turns on. For a nil Config it is false.
func (c *Config) UsesTLS() bool {
	return c != nil && (c.TLSEnabled || c.TLSConfig != nil || isTLSURL(c.URL))
}

// tls reads the files, so that a typing error shows at start and not at the first
// connection.
func (v *validation) tls() {
	c := v.cfg
	if c.TLSConfig != nil {
		return // it wins over the rest
	}
	if c.TLSCAFile != "" {
		pem, err := smallfile.Read(c.TLSCAFile, smallfile.PEM)
		switch {
		case err != nil:
			v.rejectPEM("TLSCAFile", err)
		case !x509.NewCertPool().AppendCertsFromPEM(pem):
			v.reject("TLSCAFile", "a PEM file with at least one certificate")
		}
	}
	switch {
	case c.TLSCertFile != "" && c.TLSKeyFile == "":
		v.reject("TLSKeyFile", "the key's file with TLSCertFile")
	case c.TLSCertFile == "" && c.TLSKeyFile != "":
		v.reject("TLSCertFile", "the certificate's file with TLSKeyFile")
	case c.TLSCertFile != "":
		v.keyPair()
	}
	if c.TLSServerName != "" && !isHost(c.TLSServerName) {
		v.reject("TLSServerName", allowedHost)
	}
	v.withoutTLS()
}

// withoutTLS refuses TLS settings where nothing uses TLS: going on in plain text would
// be the worst way to read them.
func (v *validation) withoutTLS() {
	c := v.cfg
	if c.UsesTLS() || !v.ok("URL", "TLSEnabled") {
		return
	}
	if c.TLSServerName != "" {
		v.reject("TLSServerName", "nothing without TLSEnabled or a rediss:// URL")
	}
	if slices.ContainsFunc(c.LockNodes, isTLSURL) || !v.ok("LockNodes") {
		return // they share the rest
	}
	for name, given := range map[string]bool{
		"TLSCAFile": c.TLSCAFile != "", "TLSCertFile": c.TLSCertFile != "", "TLSKeyFile": c.TLSKeyFile != "",
		"TLSSkipVerify": c.TLSSkipVerify,
	} {
		if given {
			v.reject(name, "nothing without TLSEnabled, a rediss:// URL or a rediss:// lock node")
		}
	}
}

// keyPair checks the client certificate and its key.
func (v *validation) keyPair() {
	cert, certErr := smallfile.Read(v.cfg.TLSCertFile, smallfile.PEM)
	if certErr != nil {
		v.rejectPEM("TLSCertFile", certErr)
	}
	key, keyErr := smallfile.Read(v.cfg.TLSKeyFile, smallfile.PEM)
	if keyErr != nil {
		v.rejectPEM("TLSKeyFile", keyErr)
	}
	if certErr != nil || keyErr != nil {
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		v.reject("TLSCertFile", "a PEM certificate that belongs to the key in TLSKeyFile")
	}
}

// rejectPEM records why the file that the field called name leads to could not be read.
func (v *validation) rejectPEM(name string, err error) {
	v.reject(name, "a regular file of at most %d KiB; it %v", smallfile.PEM, err)
}
