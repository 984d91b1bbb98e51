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

// hint says where a value that was refused may come from, or what is wrong in it, or returns "".
func (v *validation) hint(value reflect.Value) string {
	list, _ := reflect.TypeAssert[[]string](value)
	if s, ok := reflect.TypeAssert[string](value); ok {
		list = []string{s}
	}
	switch {
	case slices.ContainsFunc(list, isServiceLink):
		service := strings.ReplaceAll(strings.ToLower(v.prefix+"redis"), "_", "-")
		return fmt.Sprintf("Kubernetes sets such a variable for a Service named %s: set %sREDIS_URL, which wins over it, "+
			"or enableServiceLinks: false for the pod", service, v.prefix)
	case slices.ContainsFunc(list, func(s string) bool { return !strings.Contains(s, "://") && isEscapedZone(s) }):
		return "only in a URL the % before a zone is written %25"
	default:
		return ""
	}
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

// maxTime is the most that a command, a check or a pause may take, and maxAge how long connections
// and events are kept at most: sums of some of them are still durations.
//
// minTime is less than any server is away, and more than what a plain number in Go would mean.
const (
	minTime = time.Millisecond
	maxTime = 24 * time.Hour
	maxAge  = 10 * 365 * 24 * time.Hour
)

// maxDatabase is the highest number of a database that Redis can be set up to have.
const maxDatabase = 1 << 30

// maxNearEntries is more than any process has memory for, and keeps a number of bytes from being taken for one of values.
const maxNearEntries = 100_000_000

// minStaleness is the least with which package store bounds the age of values in the process.
const minStaleness = 10 * time.Millisecond

// maxStateTimeout is the most that package store takes.
const maxStateTimeout = time.Minute

// limit bounds a number or a duration.
type limit struct {
	least, most int64
	allowed     string
}

// limits are the bounds of all numbers and durations, by field.
func limits() map[string]limit {
	const most = math.MaxInt64
	const none = "-1 or 0 for none, "
	wait := limit{int64(minTime), int64(maxTime), fmt.Sprintf("%v to %s", minTime, hours(maxTime))}
	waitOrNone := limit{-1, int64(maxTime), none + wait.allowed} // see numbers
	pauseOrNone := limit{-1, int64(maxTime), none + "to " + hours(maxTime)}
	ageOrNone := limit{-1, int64(maxAge), none + "to " + hours(maxAge)}
	conns := limit{0, maxConns, fmt.Sprintf("0 to %d", maxConns)}
	return map[string]limit{
		"DB":              {0, maxDatabase, fmt.Sprintf("0 to %d", maxDatabase)},
		"PoolSize":        {1, maxConns, fmt.Sprintf("1 to %d", maxConns)},
		"MaxIdleConns":    conns,
		"MinIdleConns":    conns,
		"ConnMaxLifetime": ageOrNone, "ConnMaxIdleTime": ageOrNone,
		"DialTimeout": wait, "PoolTimeout": wait, "PingTimeout": wait,
		"ReadTimeout": waitOrNone, "WriteTimeout": waitOrNone,
		"DrainDelay":      {0, int64(maxTime), "0 to " + hours(maxTime)},
		"Protocol":        {2, 3, "2 or 3"},
		"MaxRetries":      {-1, 1000, none + "up to 1000"},
		"MinRetryBackoff": pauseOrNone, "MaxRetryBackoff": pauseOrNone,
		"NotificationBufferSize":   {1, maxMessages, fmt.Sprintf("1 to %d", maxMessages)},
		"NotificationHistorySize":  {-1, most, none + "or more"},
		"NotificationHistoryTTL":   {int64(time.Second), int64(maxAge), "1s to " + hours(maxAge)},
		"NotificationHistoryBytes": {1, most, "more than 0"},
		"NotificationMaxEventSize": {1, maxEventSize, fmt.Sprintf("1 to %d", maxEventSize)},
		"StoreTimeout":             wait,
		"StoreStateTimeout":        {1, int64(maxStateTimeout), "more than 0, to 1m"},
		"StoreNearEntries":         {-1, maxNearEntries, fmt.Sprintf("%sup to %d", none, maxNearEntries)},
		"StoreNearBytes":           {1, most, "more than 0"},
		"StoreNearMaxStaleness":    {int64(minStaleness), int64(maxTime), "10ms to " + hours(maxTime)},
	}
}

// hours is d as one writes it, without minutes and seconds.
func hours(d time.Duration) string { return fmt.Sprintf("%dh", d/time.Hour) }

// numbers checks sizes and durations.
func (v *validation) numbers() {
	c := v.cfg
	for name, l := range limits() {
		n := reflect.ValueOf(*c).FieldByName(name).Int()
		short := n > 0 && n < int64(minTime) && (name == "ReadTimeout" || name == "WriteTimeout")
		if n < l.least || n > l.most || short {
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
