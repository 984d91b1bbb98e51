package config

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/redis/go-redis/v9"
)

const allowedURL = "redis://[user:password@]host[:port][/database][?option=value], rediss://…, valkey://…, valkeys://… " +
	"or unix://[user:password@]/path"

// ParseURL parses a URL as [Config.URL] and [Config.LockNodes] take it. Unlike
// redis.ParseURL it knows the schemes valkey and valkeys, insists on a single named
// host, on one database and on durations with a unit, and its error, which matches
// ErrInvalid, quotes nothing of the URL.
func ParseURL(raw string) (*redis.Options, error) {
	opts, allowed := checkURL(raw)
	if allowed != "" {
		return nil, fmt.Errorf("%w: URL: allowed is %s", ErrInvalid, allowed)
	}
	return opts, nil
}

// checkURL parses a URL and returns what is allowed in its place, or "" if it is
// good. The errors of net/url and go-redis quote the whole URL with its password, so
// they are never passed on.
func checkURL(raw string) (*redis.Options, string) {
	switch {
	case hasPlaceholder(raw):
		return nil, "a URL with its variables filled in; a $ that is meant is written %24"
	case strings.Contains(raw, "#"):
		// What follows would be a fragment, which go-redis ignores together with
		// the host in it: the rest of the password that has a # in it.
		return nil, "a URL without #, which is written %23 in user and password"
	case hasTwoHosts(userPart(raw)):
		return nil, "a URL with one host, and @ and comma in user and password written %40 and %2C; " +
			"the nodes of a Cluster or of Sentinel belong in Addrs"
	case strings.Contains(userPart(raw), "@"):
		return nil, "a URL with one @, which is written %40 in user and password"
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil && unescaped(raw) != "":
		return nil, unescaped(raw)
	case err != nil && strings.Contains(authority(raw), ","):
		return nil, "a URL with one host; the nodes of a Cluster or of Sentinel belong in Addrs"
	case err != nil:
		return nil, allowedURL + " with special characters of user and password percent-encoded"
	case u.Opaque != "":
		return nil, allowedURL // "redis:host:6380": go-redis would dial localhost
	}
	user := u.User.Username()
	if password, _ := u.User.Password(); hasControl(user + password) {
		// Such as the line break that a mounted secret or an echo left.
		return nil, "a URL without control characters such as a line break (%0A) in user and password"
	}
	if !isPrintable(user) {
		return nil, "a URL without blanks and invisible characters in the user"
	}
	scheme, allowed := checkLocation(u)
	if allowed != "" {
		return nil, cmp.Or(unescaped(raw), allowed)
	}
	if allowed := checkQuery(u); allowed != "" {
		return nil, allowed
	}
	opts, err := redis.ParseURL(scheme + raw[len(u.Scheme):])
	if err != nil {
		return nil, checkOptionValues(u)
	}
	query := u.Query()
	if query.Get("max_retries") != "" && opts.MaxRetries == 0 {
		opts.MaxRetries = -1 // none; to go-redis 0 is the default, although it takes "0s" for none
	}
	return opts, checkURLOptions(opts, query)
}

// checkLocation checks scheme, host, port and path, and returns the scheme as
// go-redis knows it.
func checkLocation(u *url.URL) (scheme, allowed string) {
	switch u.Scheme {
	case "redis", "valkey":
		return "redis", checkTCP(u)
	case "rediss", "valkeys":
		return "rediss", checkTCP(u)
	case "unix":
		switch {
		case u.Host != "":
			// "unix://run/redis.sock" would lead to /redis.sock.
			return "", "a unix:// URL with three slashes before the path: unix:///run/redis.sock"
		case u.Path == "", strings.HasSuffix(u.Path, "/"):
			return "", "a unix:// URL with the path of a socket"
		}
		return "unix", ""
	default:
		return "", "a URL of the scheme redis, rediss, valkey, valkeys or unix"
	}
}

// checkTCP returns what is allowed for host, port and path of a URL, or "".
func checkTCP(u *url.URL) string {
	bracketed := strings.HasPrefix(u.Host, "[")
	switch host := u.Hostname(); {
	case host == "":
		// go-redis would dial localhost, although a name was probably meant that
		// a variable did not hold.
		return "a URL with a host"
	case !bracketed && strings.Count(u.Host, ":") > 1:
		return "a URL with one host and one port, and an IPv6 address in brackets"
	case strings.Contains(host, ","):
		return "a URL with one host; the nodes of a Cluster or of Sentinel belong in Addrs"
	case bracketed && !isIPv6(host), !bracketed && !isName(host):
		return "a URL with a host name or an IP address, IPv6 in brackets"
	case u.Port() == "" && strings.HasSuffix(u.Host, ":"), u.Port() != "" && !isPort(u.Port()):
		return "a URL with " + allowedPort
	case !isDatabasePath(u.Path):
		return "a URL whose path is a database number"
	}
	return ""
}

// userPart returns what stands between // and the host, without its @.
func userPart(raw string) string {
	_, rest, _ := strings.Cut(raw, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return rest[:max(0, strings.LastIndexByte(rest, '@'))]
}

// hasTwoHosts reports whether the user part of a URL seems to have a host in it, as that of
// redis://app:pw@host-1:6379,app:pw@host-2:6379 and of redis://host-1:6379,app:pw@host-2 has.
// The last host would get it all, with a password that may be meant for the first.
func hasTwoHosts(userPart string) bool {
	before, _, list := strings.Cut(userPart, ",")
	return list && (strings.Contains(userPart, "@") || !strings.Contains(before, ":") || isHostPort(before))
}

// unescaped returns what is allowed in place of a URL that is not good and has an @ behind
// its host: what looks like host and path may be a password with a / or ? in it.
func unescaped(raw string) string {
	scheme, rest, _ := strings.Cut(raw, "://")
	i := strings.IndexAny(rest, "/?")
	switch {
	case i < 0, strings.IndexByte(rest, '@') < i, strings.EqualFold(scheme, "unix") && !strings.Contains(rest[:i], ":"):
		return ""
	case rest[i] == '/':
		return "a URL without / in user and password, where it is written %2F"
	default:
		return "a URL without ? in user and password, where it is written %3F"
	}
}

// authority returns what stands between // and the path, without the user part.
func authority(raw string) string {
	_, rest, _ := strings.Cut(raw, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return rest[strings.LastIndexByte(rest, '@')+1:]
}

// urlDurations are the options of a URL that are durations. Those but the first two
// may be 0 or -1, which both mean "none", as in go-redis. The first four are time-outs, the next two pauses, the others ages.
func urlDurations() []string {
	return []string{
		"dial_timeout", "pool_timeout", "read_timeout", "write_timeout", "min_retry_backoff", "max_retry_backoff",
		"conn_max_idle_time", "idle_timeout", "conn_max_lifetime", "max_conn_age", "conn_max_lifetime_jitter",
	}
}

// urlOptions are all options that go-redis takes in a URL, durations apart.
func urlOptions() []string {
	return []string{
		"client_name", "db", "max_active_conns", "max_concurrent_dials", "max_idle_conns", "max_retries", "min_idle_conns",
		"pipeline_pool_size", "pipeline_read_buffer_size", "pipeline_write_buffer_size", "pool_fifo", "pool_size", "protocol",
		"skip_verify",
	}
}

// checkOptionNames returns what is allowed for the names of the options in a query.
func checkOptionNames(u *url.URL, query url.Values) string {
	known := slices.Sorted(slices.Values(append(urlOptions(), urlDurations()...)))
	all := strings.Join(known, ", ")
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch {
		case name == "skip_verify" && !isTLSURL(u.Scheme+"://"):
			return "a URL with skip_verify for rediss:// and valkeys:// only"
		case slices.Contains(known, name):
		case strings.Contains(u.RawQuery, "@"):
			// What looks like a name may be the rest of a password with a ? in it.
			return "a URL without ? in user and password, where it is written %3F; the options are " + all
		case !isOptionName(name):
			return "a URL without other options than " + all
		default:
			return "a URL without the option " + name + "; the options are " + all
		}
	}
	for _, pair := range [][2]string{{"conn_max_idle_time", "idle_timeout"}, {"conn_max_lifetime", "max_conn_age"}} {
		if query.Has(pair[0]) && query.Has(pair[1]) {
			return fmt.Sprintf("a URL with %s without %s, which means the same", pair[0], pair[1])
		}
	}
	return ""
}

// isOptionName reports whether s looks like the name of an option, right or wrong.
func isOptionName(s string) bool {
	other := func(r rune) bool { return !unicode.IsLetter(r) && r != '_' && r != '-' }
	return s != "" && len(s) <= 30 && !strings.ContainsFunc(s, other)
}

// checkOptionValues names the option whose value go-redis refuses.
func checkOptionValues(u *url.URL) string {
	query := u.Query()
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if _, err := redis.ParseURL("rediss://localhost?" + url.Values{name: query[name]}.Encode()); err != nil {
			return "a URL with a value of " + name + " that fits it"
		}
	}
	return "a URL whose query names options of go-redis, with values that fit them"
}

// checkQuery returns what is allowed for the query of a URL, or "". The values of the
// options are left to go-redis, but for what it would take for something else.
func checkQuery(u *url.URL) string {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "a URL with a well-formed query"
	}
	for _, values := range query {
		if len(values) > 1 {
			return "a URL with each option once"
		}
	}
	if allowed := checkOptionNames(u, query); allowed != "" {
		return allowed
	}
	if u.Scheme != "unix" && strings.Trim(u.Path, "/") != "" && query.Get("db") != "" {
		return "a URL with one database, in the path or as option db"
	}
	for _, name := range urlOptions() {
		text := query.Get(name)
		if _, err := strconv.Atoi(text); err != nil {
			continue // no number, or one that go-redis refuses
		}
		if _, err := parseNumber(text); err != nil {
			return "a URL with " + name + " as a whole number without sign and zeros before it"
		}
	}
	for i, name := range urlDurations() {
		text, none := query.Get(name), i >= 2
		if text == "" || (none && text == "-1") {
			continue
		}
		// go-redis takes a plain number for seconds, the environment and JSON
		// take none: one rule is easier to remember.
		d, err := parseDuration(text)
		least, most, from := time.Duration(0), maxAge, ""
		if i < 6 {
			most = maxTime
		}
		if i < 4 {
			least, from = minTime, "from 1ms "
		}
		if err != nil || d < 0 || d > most || d < least && (d > 0 || !none) {
			return fmt.Sprintf("a URL with %s %sto %s, as a duration with its unit such as 5s", name, from, hours(most))
		}
	}
	return ""
}

// maxConns bounds pool sizes: go-redis reserves memory for each connection in
// advance and panics beyond 32 bits.
const maxConns = 100_000

// maxBuffer bounds the buffers that a URL may ask for, in bytes per connection.
const maxBuffer = 64 << 20

// checkURLOptions returns what is allowed for the numbers in a URL's query, which o holds,
// or "". A 0 that go-redis would take for an option that is not there is refused.
func checkURLOptions(o *redis.Options, query url.Values) string {
	conns := fmt.Sprintf("from 1 to %d", maxConns)
	buffer := fmt.Sprintf("from 1 to %d", maxBuffer)
	for _, l := range []struct {
		name        string
		value       int
		least, most int
		allowed     string
	}{
		{"db", o.DB, 0, maxDatabase, fmt.Sprintf("from 0 to %d", maxDatabase)},
		{"pool_size", o.PoolSize, 1, maxConns, conns},
		{"min_idle_conns", o.MinIdleConns, 1, maxConns, conns},
		{"max_idle_conns", o.MaxIdleConns, 1, maxConns, conns},
		{"max_active_conns", o.MaxActiveConns, 0, maxConns, fmt.Sprintf("from 0 for no limit to %d", maxConns)},
		{"max_concurrent_dials", o.MaxConcurrentDials, 1, maxConns, conns},
		{"pipeline_pool_size", o.PipelinePoolSize, -1, maxConns, conns + ", or -1 for none"},
		{"pipeline_read_buffer_size", o.PipelineReadBufferSize, 1, maxBuffer, buffer},
		{"pipeline_write_buffer_size", o.PipelineWriteBufferSize, 1, maxBuffer, buffer},
		{"max_retries", o.MaxRetries, -1, 1000, "from 0 or -1 for none to 1000"},
		{"protocol", o.Protocol, 2, 3, "2 or 3"},
	} {
		given := query.Get(l.name) != "" || l.value != 0 // the path may name the database
		if given && (l.value < l.least || l.value > l.most || l.value == 0 && l.name == "pipeline_pool_size") {
			return fmt.Sprintf("a URL with %s %s", l.name, l.allowed)
		}
	}
	if o.MaxIdleConns > 0 && o.MinIdleConns > o.MaxIdleConns {
		return "a URL with min_idle_conns of at most max_idle_conns"
	}
	if o.MaxRetryBackoff != 0 && o.MinRetryBackoff > max(o.MaxRetryBackoff, 0) {
		return "a URL with min_retry_backoff of at most max_retry_backoff"
	}
	if !isClientName(o.ClientName) {
		return "a URL with client_name as " + allowedClientName
	}
	return ""
}

// Database is the number of the database in use: that which URL names, or else DB. It
// is for a valid Config; of a nil one it is 0.
func (c *Config) Database() int {
	if c == nil {
		return 0
	}
	if opts, err := ParseURL(c.URL); err == nil && namesDatabase(c.URL) {
		return opts.DB
	}
	return c.DB
}

// namesDatabase reports whether a good URL selects a database, by path or by option.
func namesDatabase(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	return u.Query().Get("db") != "" || (u.Scheme != "unix" && strings.Trim(u.Path, "/") != "")
}

// isTLSURL reports whether the scheme of a URL, in letters of any case, asks for TLS.
func isTLSURL(raw string) bool {
	scheme, _, ok := strings.Cut(strings.TrimSpace(raw), "://")
	return ok && (strings.EqualFold(scheme, "rediss") || strings.EqualFold(scheme, "valkeys"))
}
