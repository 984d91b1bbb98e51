package config

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Validate reports every bad field at once, as an [*Error]; nil means that a
// client can be built. A hand-written Config is judged with its defaults filled
// in, so the zero Config is valid, and what another setting overrides is not judged.
// TLS files and the password file are read; nothing is sent anywhere.
func (c *Config) Validate() error {
	return c.WithDefaults().check(nil)
}

// check validates a complete Config. bad holds the fields that could not even be
// decoded: they are reported as they are and not judged again.
func (c *Config) check(bad map[string]FieldError) error {
	v := validation{cfg: c, prefix: c.prefix, bad: bad}
	if v.bad == nil {
		v.bad = make(map[string]FieldError)
	}
	v.overridden = c.overridden()
	for name := range v.overridden {
		delete(v.bad, name)
	}
	v.texts()
	v.endpoint()
	v.topology()
	v.lockNodes()
	v.credentials()
	v.numbers()
	v.tls()
	v.names()
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
	// overridden holds the fields that another one makes meaningless.
	overridden map[string]bool
}

// reject records that the field called name must be what allowed says, unless another
// field makes it meaningless.
func (v *validation) reject(name, allowed string, args ...any) {
	if _, ok := v.bad[name]; ok || v.overridden[name] {
		return
	}
	fe := FieldError{Field: name, Allowed: fmt.Sprintf(allowed, args...)}
	for _, f := range fields() {
		if f.name != name {
			continue
		}
		if f.env != "" {
			fe.Variable = v.prefix + f.env
		}
		value := reflect.ValueOf(*v.cfg).Field(f.index)
		fe.Value, fe.Hint = showValue(f, value), v.hint(value)
	}
	v.bad[name] = fe
}

// hint says where a value that was refused may come from, or returns "".
func (v *validation) hint(value reflect.Value) string {
	if s, ok := reflect.TypeAssert[string](value); !ok || !isServiceLink(s) {
		list, ok := reflect.TypeAssert[[]string](value)
		if !ok || !slices.ContainsFunc(list, isServiceLink) {
			return ""
		}
	}
	service := strings.ReplaceAll(strings.ToLower(v.prefix+"redis"), "_", "-")
	return fmt.Sprintf("Kubernetes sets such a variable for a Service named %s: set %sREDIS_URL, which wins over it, "+
		"or enableServiceLinks: false for the pod", service, v.prefix)
}

// ok reports whether none of the named fields was rejected.
func (v *validation) ok(names ...string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { _, bad := v.bad[n]; return bad })
}

// texts checks what is wrong in any text, before it shows as something else.
func (v *validation) texts() {
	val := reflect.ValueOf(*v.cfg)
	for _, f := range fields() {
		var list []string
		switch value := val.Field(f.index).Interface().(type) {
		case string:
			list = []string{value}
		case []string:
			// As a whole, too: quotes may stand around all of it.
			list = append(slices.Clone(value), strings.Join(value, ","))
		}
		for _, s := range list {
			if has := fault(f, s); has != "" {
				v.reject(f.name, "a value without %s", has)
			}
		}
	}
}

// maxMessages is how many messages package notification buffers at most.
const maxMessages = 1 << 20

// maxEventSize is the most that package notification allows for one event.
const maxEventSize = 512 << 20

// maxNearEntries is more than any process has memory for, and keeps a number of bytes from being taken for one of values.
const maxNearEntries = 100_000_000

// minStaleness is the least with which package store bounds the age of values in the process.
const minStaleness = 10 * time.Millisecond

// limit bounds a number or a duration.
type limit struct {
	least, most int64
	allowed     string
}

// limits are the bounds of all numbers and durations, by field.
func limits() map[string]limit {
	const most = math.MaxInt64
	positive := limit{1, most, "more than 0"}
	orZero := limit{0, most, "0 or more"}
	orNone := limit{-1, most, "-1 or 0 for none, or more"}
	conns := limit{0, maxConns, fmt.Sprintf("0 to %d", maxConns)}
	return map[string]limit{
		"DB":              orZero,
		"PoolSize":        {1, maxConns, fmt.Sprintf("1 to %d", maxConns)},
		"MaxIdleConns":    conns,
		"MinIdleConns":    conns,
		"ConnMaxLifetime": orNone, "ConnMaxIdleTime": orNone,
		"DialTimeout": positive, "PoolTimeout": positive, "PingTimeout": positive,
		"ReadTimeout": orNone, "WriteTimeout": orNone,
		"Protocol":        {2, 3, "2 or 3"},
		"MaxRetries":      {-1, 1000, "-1 or 0 for none, up to 1000"},
		"MinRetryBackoff": orNone, "MaxRetryBackoff": orNone,
		"NotificationBufferSize":   {1, maxMessages, fmt.Sprintf("1 to %d", maxMessages)},
		"NotificationHistorySize":  orNone,
		"NotificationHistoryTTL":   {int64(time.Second), most, "1s or more"},
		"NotificationHistoryBytes": positive,
		"NotificationMaxEventSize": {1, maxEventSize, fmt.Sprintf("1 to %d", maxEventSize)},
		"StoreTimeout":             positive,
		"StoreNearEntries":         {-1, maxNearEntries, fmt.Sprintf("-1 or 0 for none, up to %d", maxNearEntries)},
		"StoreNearBytes":           positive,
		"StoreNearMaxStaleness":    {int64(minStaleness), most, "10ms or more"},
	}
}

// numbers checks sizes and durations.
func (v *validation) numbers() {
	c := v.cfg
	for name, l := range limits() {
		if n := reflect.ValueOf(*c).FieldByName(name).Int(); n < l.least || n > l.most {
			v.reject(name, "%s", l.allowed)
		}
	}
	if v.ok("MaxIdleConns", "MinIdleConns") && c.MaxIdleConns > 0 && c.MinIdleConns > c.MaxIdleConns {
		v.reject("MinIdleConns", "at most MaxIdleConns, %d", c.MaxIdleConns)
	}
	if v.ok("MinRetryBackoff", "MaxRetryBackoff") && noneToZero(c.MinRetryBackoff) > noneToZero(c.MaxRetryBackoff) {
		v.reject("MinRetryBackoff", "at most MaxRetryBackoff, %s", noneToZero(c.MaxRetryBackoff))
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

// names checks what becomes part of keys and of CLIENT LIST.
func (v *validation) names() {
	if !isClientName(v.cfg.ClientName) {
		v.reject("ClientName", allowedClientName)
	}
	if strings.ContainsAny(v.cfg.KeyPrefix, "{}") {
		v.reject("KeyPrefix", "no braces: the module places them to keep keys on one node of a Cluster")
	}
	if prefix := v.cfg.NotificationChannelPrefix; strings.ContainsAny(prefix, globBytes) || !utf8.ValidString(prefix) {
		v.reject("NotificationChannelPrefix", `UTF-8 without *, ?, [ and \, which globs give a meaning to`)
	}
}

// globBytes are those that make the name of a channel a glob.
const globBytes = `*?[\`

const allowedClientName = "printable ASCII without spaces"

// isClientName reports whether Redis takes name for a connection, or it is empty: others
// it refuses for each new one.
func isClientName(name string) bool { return isASCII(name) && isPrintable(name) }

// showValue returns the value of a field for an error.
func showValue(f field, v reflect.Value) string {
	switch s := showField(f, v).(type) {
	case string:
		return strconv.Quote(shorten(s))
	case []string:
		if len(s) > 10 {
			s = append(s[:10:10], "…")
		}
		return fmt.Sprintf("%q", s)
	default:
		return fmt.Sprint(s)
	}
}
