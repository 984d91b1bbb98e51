package redistest

import (
	"fmt"
	"strings"
)

// Option changes how a server is started.
type Option func(*settings)

// settings is what the options of one server, or of all servers of a Sentinel
// set or a cluster, add up to.
type settings struct {
	username, password string
	sentinelPassword   string
	persistent, secure bool
	replicas           int
	extra              []string
}

// WithPassword makes the server demand the password of the default user.
func WithPassword(password string) Option {
	return func(s *settings) { s.password = password }
}

// WithUser adds a user who may do everything. The default user is switched
// off, so that whoever sends no user name is refused.
func WithUser(name, password string) Option {
	return func(s *settings) { s.username, s.password = name, password }
}

// WithSentinelPassword makes the sentinels themselves demand a password. It
// has no effect on the servers they watch.
func WithSentinelPassword(password string) Option {
	return func(s *settings) { s.sentinelPassword = password }
}

// WithPersistence writes every change to disk before it is answered, so that
// data survives Restart, even after Kill. The default is a server that is
// empty after each start.
func WithPersistence() Option {
	return func(s *settings) { s.persistent = true }
}

// WithTLS makes the server speak TLS only, with a certificate for 127.0.0.1
// and localhost by an authority made for the test. Client certificates are
// accepted but not demanded; WithConfig("tls-auth-clients", "yes") demands them.
func WithTLS() Option {
	return func(s *settings) { s.secure = true }
}

// WithReplicas gives each master of a cluster n replicas; the default is none.
// It has no effect elsewhere.
func WithReplicas(n int) Option {
	return func(s *settings) { s.replicas = n }
}

// WithConfig adds a line to the server's configuration file, after the
// harness' own, so that it overrides them. The value is written as it is: it
// may consist of several words.
func WithConfig(name, value string) Option {
	if value == "" {
		value = `""`
	}
	return func(s *settings) { s.extra = append(s.extra, name+" "+value) }
}

// collect applies the options.
func collect(opts []Option) *settings {
	s := &settings{}
	for _, opt := range opts {
		opt(s)
	}
	return s
}

// lines returns the configuration that data servers share.
func (s *settings) lines() []string {
	lines := []string{
		`save ""`,
		// Without a file in between, the master sends nothing to a new replica
		// until that has reported, up to a second after its link is up: a
		// failover in that second would lose what was written.
		"repl-diskless-sync no",
	}
	if s.persistent {
		lines = append(lines, "appendonly yes", "appendfsync always")
	} else {
		lines = append(lines, "appendonly no")
	}
	switch {
	case s.username != "":
		lines = append(lines,
			"user default off",
			fmt.Sprintf("user %s on %s ~* &* +@all", quote(s.username), quote(">"+s.password)),
			"masteruser "+quote(s.username),
			"masterauth "+quote(s.password))
	case s.password != "":
		lines = append(lines, "requirepass "+quote(s.password), "masterauth "+quote(s.password))
	}
	return append(lines, s.extra...)
}

// quote writes a word of the configuration file.
func quote(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`).Replace(word) + `"`
}
