package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority is a certificate authority with one certificate for the servers
// and one for their clients, as files and as a client's configuration.
type authority struct {
	caFile                string
	serverCert, serverKey string
	clientCert, clientKey string
	client                *tls.Config
	certificate           *x509.Certificate
	key                   *ecdsa.PrivateKey
	directory             string
	notBefore, notAfter   time.Time
}

// newAuthority makes everything in the given directory. The certificates are
// valid for a day: longer than any test, and no use to anybody else.
func newAuthority(directory string) (*authority, error) {
	now := time.Now()
	a := &authority{
		directory: directory,
		caFile:    filepath.Join(directory, "ca.crt"),
		notBefore: now.Add(-time.Hour),
		notAfter:  now.Add(24 * time.Hour),
	}
	if err := a.signSelf(); err != nil {
		return nil, fmt.Errorf("redistest: make certificate authority: %w", err)
	}
	var err error
	if a.serverCert, a.serverKey, err = a.issue("server", 2); err != nil {
		return nil, fmt.Errorf("redistest: make server certificate: %w", err)
	}
	if a.clientCert, a.clientKey, err = a.issue("client", 3); err != nil {
		return nil, fmt.Errorf("redistest: make client certificate: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(a.clientCert, a.clientKey)
	if err != nil {
		return nil, fmt.Errorf("redistest: load client certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	a.client = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	return a, nil
}

// signSelf makes the authority's own certificate.
func (a *authority) signSelf() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "redistest authority"},
		NotBefore:             a.notBefore,
		NotAfter:              a.notAfter,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	a.key = key
	return writePEM(a.caFile, "CERTIFICATE", der)
}

// issue makes a certificate and its key and returns their files. Servers dial
// each other as well (replicas, sentinels, clusters), so that each certificate
// serves both roles.
func (a *authority) issue(name string, serial int64) (certFile, keyFile string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: "redistest " + name},
		NotBefore:    a.notBefore,
		NotAfter:     a.notAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.ParseIP(loopback)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		return "", "", err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", "", err
	}
	certFile = filepath.Join(a.directory, name+".crt")
	keyFile = filepath.Join(a.directory, name+".key")
	if err := writePEM(certFile, "CERTIFICATE", der); err != nil {
		return "", "", err
	}
	return certFile, keyFile, writePEM(keyFile, "EC PRIVATE KEY", secret)
}

// writePEM writes one block to a file that only its owner can read.
func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// lines returns the configuration that makes a server use these certificates,
// among servers too.
func (a *authority) lines() []string {
	return []string{
		"tls-ca-cert-file " + quote(a.caFile),
		"tls-cert-file " + quote(a.serverCert),
		"tls-key-file " + quote(a.serverKey),
		"tls-auth-clients optional",
		"tls-replication yes",
	}
}
