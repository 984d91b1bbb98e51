package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Validate reports every bad field at once, as an [*Error]; nil means that a
// client can be built. A hand-written Config is judged with its defaults filled
// in, so the zero Config is valid. TLS files are read; nothing is sent anywhere.
func (c *Config) Validate() error {
	return c.WithDefaults().check("", nil)
}

// check validates a complete Config whose variables carry prefix. bad holds the
// fields that could not even be decoded: they are reported as they are and not
// judged again.
func (c *Config) check(prefix string, bad map[string]FieldError) error {
	v := validation{cfg: c, prefix: prefix, bad: bad}
	if v.bad == nil {
		v.bad = make(map[string]FieldError)
	}
	v.endpoint()
	v.topology()
	v.numbers()
	v.tls()
	v.names()
	v.lockNodes()
	v.policy()
	if len(v.bad) == 0 {
		return nil
	}
	e := &Error{}
	for _, f := range fields() {
		if fe, ok := v.bad[f.name]; ok {
			e.Fields = append(e.Fields, fe)
		}
	}
	return e
}

// validation collects what is wrong with one Config. Only the first fault of a
// field is kept: the later ones usually follow from it.
type validation struct {
	cfg    *Config
	prefix string
	bad    map[string]FieldError
}

// reject records that the field called name must be what allowed says.
func (v *validation) reject(name, allowed string, args ...any) {
	if _, ok := v.bad[name]; ok {
		return
	}
	fe := FieldError{Field: name, Allowed: fmt.Sprintf(allowed, args...)}
	if env := variable(name); env != "" {
		fe.Variable = v.prefix + env
	}
	for _, f := range fields() {
		if f.name == name {
			fe.Value = showValue(f, reflect.ValueOf(*v.cfg).Field(f.index))
		}
	}
	v.bad[name] = fe
}

// ok reports whether none of the named fields was rejected.
func (v *validation) ok(names ...string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { _, bad := v.bad[n]; return bad })
}

// endpoint checks the address of the main server.
func (v *validation) endpoint() {
	c := v.cfg
	if !isHost(c.Host) {
		v.reject("Host", "a host name or an IP address, without a port")
	}
	if !isPort(c.Port) {
		v.reject("Port", allowedPort)
	}
	if c.DB < 0 {
		v.reject("DB", "0 or more")
	}
	if c.URL == "" {
		return
	}
	opts, allowed := checkURL(c.URL)
	if allowed != "" {
		v.reject("URL", "%s", allowed)
		return
	}
	if c.Cluster && opts.Network == "unix" {
		v.reject("URL", "a redis:// or rediss:// URL with Cluster")
	}
	if c.Cluster && opts.DB != 0 {
		v.reject("URL", "database 0 with Cluster")
	}
}

// topology checks the choice between one server, Sentinel and Cluster.
func (v *validation) topology() {
	c := v.cfg
	if c.Cluster && c.DB != 0 {
		v.reject("DB", "0 with Cluster")
	}
	if c.MasterName != "" {
		switch {
		case c.Cluster:
			v.reject("MasterName", "nothing with Cluster: use either Sentinel or Cluster")
		case len(c.Addrs) == 0:
			v.reject("Addrs", "at least one host:port of a sentinel with MasterName")
		}
		if !isPrintable(c.MasterName) {
			v.reject("MasterName", "a name without spaces")
		}
	}
	if len(c.Addrs) > 0 {
		switch {
		case !slices.ContainsFunc(c.Addrs, func(a string) bool { return !isHostPort(a) }):
		default:
			v.reject("Addrs", "a list of host:port, with "+allowedPort)
		}
		if c.MasterName == "" && !c.Cluster {
			v.reject("Addrs", "nothing without MasterName (Sentinel) or Cluster")
		}
	}
	if c.URL != "" && (c.MasterName != "" || len(c.Addrs) > 0) {
		v.reject("URL", "nothing with MasterName or Addrs: the addresses would contradict each other")
	}
	if c.MasterName == "" && (c.SentinelUsername != "" || c.SentinelPassword != "") {
		name := "SentinelPassword"
		if c.SentinelPassword == "" {
			name = "SentinelUsername"
		}
		v.reject(name, "nothing without MasterName")
	}
}

// maxMessages is how many messages package notification buffers at most.
const maxMessages = 1 << 20

// numbers checks sizes and durations.
func (v *validation) numbers() {
	c := v.cfg
	if c.PoolSize < 1 || c.PoolSize > maxConns {
		v.reject("PoolSize", "1 to %d", maxConns)
	}
	for name, n := range map[string]int{"MaxIdleConns": c.MaxIdleConns, "MinIdleConns": c.MinIdleConns} {
		if n < 0 || n > maxConns {
			v.reject(name, "0 to %d", maxConns)
		}
	}
	if v.ok("MaxIdleConns", "MinIdleConns") && c.MaxIdleConns > 0 && c.MinIdleConns > c.MaxIdleConns {
		v.reject("MinIdleConns", "at most MaxIdleConns, %d", c.MaxIdleConns)
	}
	for name, d := range map[string]time.Duration{
		"DialTimeout": c.DialTimeout, "PoolTimeout": c.PoolTimeout, "PingTimeout": c.PingTimeout,
	} {
		if d <= 0 {
			v.reject(name, "more than 0")
		}
	}
	for name, d := range map[string]time.Duration{"ReadTimeout": c.ReadTimeout, "WriteTimeout": c.WriteTimeout} {
		if d < 0 {
			v.reject(name, "0 or more")
		}
	}
	if c.MaxRetries < -1 || c.MaxRetries > 1000 {
		v.reject("MaxRetries", "-1 or 0 for none, up to 1000")
	}
	for name, d := range map[string]time.Duration{"MinRetryBackoff": c.MinRetryBackoff, "MaxRetryBackoff": c.MaxRetryBackoff} {
		if d < -1 {
			v.reject(name, "-1 or 0 for none, or more")
		}
	}
	if v.ok("MinRetryBackoff", "MaxRetryBackoff") && noneToZero(c.MinRetryBackoff) > noneToZero(c.MaxRetryBackoff) {
		v.reject("MinRetryBackoff", "at most MaxRetryBackoff, %s", noneToZero(c.MaxRetryBackoff))
	}
	if c.NotificationBufferSize < 1 || c.NotificationBufferSize > maxMessages {
		v.reject("NotificationBufferSize", "1 to %d", maxMessages)
	}
	if c.NotificationHistorySize < -1 {
		v.reject("NotificationHistorySize", "-1 or 0 for none, or more")
	}
	if c.NotificationHistoryTTL < time.Second {
		v.reject("NotificationHistoryTTL", "1s or more")
	}
}

// policy checks the one word that package notification gives a meaning to.
func (v *validation) policy() {
	switch v.cfg.NotificationPolicy {
	case "replay", "drop_oldest", "drop_newest", "disconnect":
	default:
		v.reject("NotificationPolicy", "replay, drop_oldest, drop_newest or disconnect")
	}
}

// tls reads the files, so that a typing error shows at start and not at the first
// connection.
func (v *validation) tls() {
	c := v.cfg
	if c.TLSConfig != nil {
		return // it wins over the rest
	}
	if c.TLSCAFile != "" {
		pem, err := os.ReadFile(c.TLSCAFile)
		switch {
		case err != nil:
			v.reject("TLSCAFile", "a readable file")
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
	if c.UsesTLS() || !v.ok("URL", "TLSEnabled") {
		return
	}
	for name, s := range map[string]string{
		"TLSCAFile": c.TLSCAFile, "TLSCertFile": c.TLSCertFile, "TLSKeyFile": c.TLSKeyFile, "TLSServerName": c.TLSServerName,
	} {
		if s != "" {
			// Going on in plain text would be the worst way to read this.
			v.reject(name, "nothing without TLSEnabled or a rediss:// URL")
		}
	}
}

// keyPair checks the client certificate and its key.
func (v *validation) keyPair() {
	cert, certErr := os.ReadFile(v.cfg.TLSCertFile)
	if certErr != nil {
		v.reject("TLSCertFile", "a readable file")
	}
	key, keyErr := os.ReadFile(v.cfg.TLSKeyFile)
	if keyErr != nil {
		v.reject("TLSKeyFile", "a readable file")
	}
	if certErr != nil || keyErr != nil {
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		v.reject("TLSCertFile", "a PEM certificate that belongs to the key in TLSKeyFile")
	}
}

// names checks what becomes part of keys and of CLIENT LIST.
func (v *validation) names() {
	// Redis itself refuses such names, at every new connection.
	if name := v.cfg.ClientName; name != "" && (!isASCII(name) || !isPrintable(name)) {
		v.reject("ClientName", "printable ASCII without spaces")
	}
	if strings.ContainsAny(v.cfg.KeyPrefix, "{}") {
		v.reject("KeyPrefix", "no braces: the module places them to keep keys on one node of a Cluster")
	}
}

// lockNodes checks the addresses of the independent masters.
func (v *validation) lockNodes() {
	seen := make(map[string]bool)
	for _, node := range v.cfg.LockNodes {
		addr := node
		if strings.Contains(node, "://") {
			opts, allowed := checkURL(node)
			if allowed != "" {
				v.reject("LockNodes", "a list of host:port or of URLs: each %s", allowed)
				return
			}
			addr = opts.Addr
		} else if !isHostPort(node) {
			v.reject("LockNodes", "a list of host:port or of redis://, rediss:// or unix:// URLs")
			return
		}
		if addr = strings.ToLower(addr); seen[addr] {
			v.reject("LockNodes", "each server once: a majority of copies decides nothing")
			return
		}
		seen[addr] = true
	}
}

// UsesTLS reports whether connections to the main server use TLS: because of
// TLSEnabled, TLSConfig, or a rediss:// URL.
func (c *Config) UsesTLS() bool {
	scheme, _, _ := strings.Cut(c.URL, "://") // RFC 3986: without regard to case
	return c.TLSEnabled || c.TLSConfig != nil || strings.EqualFold(scheme, "rediss")
}

// isASCII reports whether s has no byte above 0x7f.
func isASCII(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(b byte) bool { return b > 0x7f })
}

// showValue returns the value of a field for an error.
func showValue(f field, v reflect.Value) string {
	switch s := showField(f, v).(type) {
	case string:
		if len(s) > maxShown {
			s = s[:maxShown] + "…"
		}
		return strconv.Quote(s)
	case []string:
		if len(s) > 10 {
			s = append(s[:10:10], "…")
		}
		return fmt.Sprintf("%q", s)
	default:
		return fmt.Sprint(s)
	}
}
