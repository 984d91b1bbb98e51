package store

import (
	"strings"
	"unicode"
	"unicode/utf8"

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
	return groupTag(k.group(key)) + ":" + key
}

// groupTag is a hash tag like that of redisx.HashTag, but has no other "}" than its last character, so that it is known where
// the key begins.
func groupTag(group string) string {
	if group == "" {
		return "{%}"
	}
	return "{" + strings.NewReplacer("%", "%25", "}", "%7D").Replace(group) + "}"
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
	_, key, ok = strings.Cut(rest, "}:")
	return key, ok && key != "" && k.has(key, rest)
}

// has reports whether this is the rest of the name of a key. Something else may have written it, of which the function of
// WithGroup makes nothing but a panic.
func (k keyspace) has(key, rest string) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return k.rest(key) == rest
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
	case !utf8.ValidString(name): // a label of metrics must be
		return &ArgumentError{Argument: "name", Reason: "is not valid UTF-8"}
	}
	return nil
}

// checkKey refuses the empty key.
func checkKey(key string) error { return refuse(key == "", "key", "is empty") }
