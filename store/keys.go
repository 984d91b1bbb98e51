package store

import (
	"strings"
	"unicode"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store/internal/server"
)

// keyspace names the keys of a Cache or State.
type keyspace struct {
	values, leases, tags string                  // what they begin with
	group                func(key string) string // nil for none
}

func newKeyspace(prefix, name string, group func(string) string) keyspace {
	return keyspace{prefix + "v:" + name + ":", prefix + "l:" + name + ":", prefix + "t:" + name + ":", group}
}

// value names the key of a value.
func (k keyspace) value(key string) string { return k.values + k.rest(key) }

// lease names the key of the lease on a value, which is on the same node.
func (k keyspace) lease(key string) string { return k.leases + k.rest(key) }

// tag names the key of a tag.
func (k keyspace) tag(tag string) string { return k.tags + redisx.HashTag(tag) }

func (k keyspace) rest(key string) string {
	if k.group == nil {
		return redisx.HashTag(key)
	}
	return redisx.HashTag(k.group(key)) + ":" + key
}

// pattern matches the keys of all values whose keys begin with prefix, and maybe some others.
func (k keyspace) pattern(prefix string) string {
	text := server.Escape(k.values)
	switch {
	case k.group != nil:
		return text + "{*}:" + server.Escape(prefix) + "*"
	case prefix == "":
		return text + "{*"
	default: // a HashTag begins as its name does
		return text + server.Escape(strings.TrimSuffix(redisx.HashTag(prefix), "}")) + "*"
	}
}

// key returns the key whose value has a name in Redis; ok is false if there is none.
func (k keyspace) key(name string) (key string, ok bool) {
	rest, ok := strings.CutPrefix(name, k.values)
	if !ok {
		return "", false
	}
	if k.group == nil {
		key = strings.TrimSuffix(strings.TrimPrefix(rest, "{"), "}")
		if k.rest(key) != rest { // it was escaped
			key = strings.TrimPrefix(key, "%")
		}
		return key, key != "" && k.rest(key) == rest
	}
	for i := range rest { // the group may contain anything
		if strings.HasPrefix(rest[i:], "}:") && rest[i+2:] != "" && k.rest(rest[i+2:]) == rest {
			return rest[i+2:], true
		}
	}
	return "", false
}

// checkName refuses names that would make keys of two Caches or States the same, or patterns.
func checkName(name string) error {
	switch {
	case name == "":
		return &ArgumentError{Argument: "name", Reason: "is empty"}
	case strings.ContainsAny(name, `:{}*?[]\`):
		return &ArgumentError{Argument: "name", Reason: `contains one of :{}*?[]\`}
	case strings.ContainsFunc(name, unicode.IsControl):
		return &ArgumentError{Argument: "name", Reason: "contains a control character"}
	}
	return nil
}

// checkKey refuses the empty key.
func checkKey(key string) error { return refuse(key == "", "key", "is empty") }
