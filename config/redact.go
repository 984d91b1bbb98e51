package config

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"
)

// redacted stands wherever a secret would.
const redacted = "REDACTED"

var (
	_ fmt.Formatter           = Config{}
	_ fmt.Stringer            = Config{}
	_ fmt.GoStringer          = Config{}
	_ zapcore.ObjectMarshaler = Config{}
	_ slog.LogValuer          = Config{}
)

// Format writes the fields that are set, secrets as REDACTED, whatever the verb.
func (c Config) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, c.String()) }

// GoString is the same as String.
func (c Config) GoString() string { return c.String() }

// String lists the fields that are set, secrets as REDACTED.
func (c Config) String() string {
	var b strings.Builder
	b.WriteString("config.Config{")
	for i, e := range c.shown() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(e.field.name)
		b.WriteByte(':')
		switch v := e.value.(type) {
		case string:
			b.WriteString(strconv.Quote(v))
		case []string:
			fmt.Fprintf(&b, "%q", v)
		default:
			fmt.Fprint(&b, v)
		}
	}
	b.WriteByte('}')
	return b.String()
}

// MarshalLogObject adds the fields that are set under their JSON names, secrets
// as REDACTED.
func (c Config) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	for _, e := range c.shown() {
		switch v := e.value.(type) {
		case string:
			enc.AddString(e.key(), v)
		case bool:
			enc.AddBool(e.key(), v)
		case int:
			enc.AddInt(e.key(), v)
		case time.Duration:
			enc.AddDuration(e.key(), v)
		default:
			if err := enc.AddReflected(e.key(), v); err != nil {
				return fmt.Errorf("config: log %s: %w", e.field.name, err)
			}
		}
	}
	return nil
}

// LogValue groups the fields that are set under their JSON names, secrets as REDACTED.
func (c Config) LogValue() slog.Value {
	shown := c.shown()
	attrs := make([]slog.Attr, 0, len(shown))
	for _, e := range shown {
		attrs = append(attrs, slog.Any(e.key(), e.value))
	}
	return slog.GroupValue(attrs...)
}

// entry is a field that is set, with a value that may be shown.
type entry struct {
	field field
	value any
}

// key is the JSON name, or the Go name of fields that have none.
func (e entry) key() string {
	if e.field.json != "" {
		return e.field.json
	}
	return e.field.name
}

// shown returns the fields that are not zero, with secrets removed.
func (c Config) shown() []entry {
	v := reflect.ValueOf(c)
	var out []entry
	for _, f := range fields() {
		if fv := v.Field(f.index); !fv.IsZero() {
			out = append(out, entry{f, showField(f, fv)})
		}
	}
	return out
}

// showField turns the value of a field into one that may be shown.
func showField(f field, v reflect.Value) any {
	switch {
	case v.Kind() == reflect.Func, v.Kind() == reflect.Interface, v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct:
		return "set" // a dialer, a source of credentials, or a TLS config with private keys in it
	}
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String:
		return showSafe(f, v.String())
	case reflect.Slice:
		list, _ := reflect.TypeAssert[[]string](v)
		return showList(f, list)
	default:
		return v.Interface()
	}
}

// showSafe returns s, redacted as its field demands.
func showSafe(f field, s string) string {
	switch {
	case s == "":
		return s
	case f.secret:
		return redacted
	case isServiceLink(s):
		return s // an address in an unusual form
	case f.path && !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "."):
		return redacted // perhaps the secret itself, in the wrong variable
	case f.pem && !strings.HasPrefix(s, "/") && !strings.Contains(s, "."):
		return redacted // perhaps a key: neither PEM nor base64 has a dot, and no key in base64 begins with /
	case f.url, strings.Contains(s, "://"):
		return redactURL(s)
	case isComposed(s):
		return redacted
	case f.addr && strings.Contains(s, ":") && !isHost(s) && !isHostPort(s), f.user && strings.Contains(s, ":"):
		return redacted // user:password, in a field that takes something else
	default:
		return s
	}
}

// isComposed reports whether s has a character that separates a secret from the rest
// in a connection string of any kind: user:password@host, host,password=…, host?password=….
// It may be such a string in the wrong field, or a piece of one.
func isComposed(s string) bool {
	return strings.ContainsAny(s, "@,=?;&#| \t\r\n")
}

// showList returns a list with its elements redacted, and with nothing but REDACTED in
// it if one of them is not what the field takes: it may be the rest of a password with
// a comma in it, and the element before it the beginning.
func showList(f field, list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		good := isHostPort(s) || isServiceLink(s)
		if f.url && !good {
			_, allowed := checkURL(s)
			good = allowed == ""
		}
		if !good {
			return []string{redacted}
		}
		out[i] = showSafe(f, s)
	}
	return out
}

// maxShown bounds the length of a value in an error, in characters.
const maxShown = 80

// shorten cuts off what is beyond that.
func shorten(s string) string {
	if runes := []rune(s); len(runes) > maxShown {
		return string(runes[:maxShown]) + "…"
	}
	return s
}

// showText returns the raw text given for a number, a truth value or a duration that
// did not decode, quoted, for an error.
func showText(f field, raw string) string {
	s := strings.TrimSpace(raw)
	if !isServiceLink(s) && (isComposed(s) || strings.Contains(s, ":")) {
		return strconv.Quote(redacted) // an address, perhaps with a password
	}
	return strconv.Quote(shorten(showSafe(f, raw)))
}

// redactURL returns raw without its user part, query and fragment. A text that is
// no URL of a Redis, or whose secret might have slipped into host or path because
// it was not escaped, is replaced as a whole.
func redactURL(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	scheme = strings.ToLower(scheme)
	if !ok {
		if isHostPort(raw) {
			return raw // the short form of a lock node
		}
		return redacted
	}
	if !slices.Contains([]string{"redis", "rediss", "valkey", "valkeys", "unix"}, scheme) {
		if !isSchemeName(scheme) {
			return redacted
		}
		return scheme + "://" + redacted
	}
	tail := ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest, tail = rest[:i], rest[i:]
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil, strings.ContainsAny(tail, "@#"), !isHarmless(authority(raw)):
		// "redis://user:pa/ss@host": the password ended up in the path.
		return scheme + "://" + redacted
	case scheme == "unix" && (strings.Contains(authority(raw), ":") || isComposed(u.Path)):
		return scheme + "://" + redacted // no path of a socket
	}
	out := scheme + "://"
	if strings.Contains(rest, "@") {
		out += redacted + "@"
	}
	out += authority(raw)
	switch {
	case scheme == "unix" || isDatabasePath(u.Path) && len(u.Path) <= len("/65535/"): // a longer number may be a password
		out += u.Path
	default:
		out += "/" + redacted
	}
	if u.RawQuery != "" {
		out += "?" + redacted
	}
	return out
}

// isHarmless reports whether the host part of a URL, good or bad, looks like host, port
// or a list of them, and so is no part of a password.
func isHarmless(authority string) bool {
	for part := range strings.SplitSeq(authority, ",") {
		host := strings.ReplaceAll(part, "%25", "%")
		if i := strings.LastIndexByte(host, ':'); i > 0 && isPort(host[i+1:]) {
			host = host[:i]
		}
		if authority != "" && !isHost(host) {
			return false
		}
	}
	return true
}

// isDatabasePath reports whether a URL's path is empty or a database number.
func isDatabasePath(path string) bool {
	path = strings.Trim(path, "/")
	n, err := parseNumber(path)
	return path == "" || err == nil && n >= 0 && n <= math.MaxInt32
}

// isSchemeName reports whether s looks like http or postgresql and not like a secret.
func isSchemeName(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && r != '+' {
			return false
		}
	}
	return s != "" && len(s) <= 12
}
