package config

import (
	"reflect"
	"strings"
	"time"
)

// field is what the struct tags say about one field of Config.
type field struct {
	index    int
	name     string // Go name
	env      string // variable without prefix; empty if it has none
	json     string // empty if it has none
	fallback string // default, as it would be written in the environment
	secret   bool   // the value never shows
	url      bool   // the value is a URL, or a list of them: shown without user part and query
	addr     bool   // the value is an address, or part of one
	user     bool   // the value names a user or a master, where a colon betrays a password
	path     bool   // the value is the path of a file that holds a secret
	pem      bool   // the value is the path of a PEM file
	server   bool   // the field says which server is used, how, and as whom
}

// fields lists the fields of Config in their order, without the unexported ones.
// It is computed on demand: configuration is read once per process, and package
// state would have to be guarded.
func fields() []field {
	t := reflect.TypeFor[Config]()
	out := make([]field, 0, t.NumField())
	for i := range t.NumField() {
		sf := t.Field(i)
		if !sf.IsExported() {
			continue
		}
		f := field{index: i, name: sf.Name, server: sf.Tag.Get("part") == "server"}
		switch sf.Tag.Get("redact") {
		case "secret":
			f.secret = true
		case "url":
			f.url = true
		case "addr":
			f.addr = true
		case "user":
			f.user = true
		case "path":
			f.path = true
		case "pem":
			f.pem = true
		}
		env, rest, _ := strings.Cut(sf.Tag.Get("env"), ",")
		f.env = env
		f.fallback = strings.TrimPrefix(rest, "default=")
		if name := sf.Tag.Get("json"); name != "-" {
			f.json = name
		}
		out = append(out, f)
	}
	return out
}

// typ is the type of the field.
func (f field) typ() reflect.Type { return reflect.TypeFor[Config]().Field(f.index).Type }

// isDuration reports whether the field holds a duration.
func (f field) isDuration() bool { return f.typ() == reflect.TypeFor[time.Duration]() }

// allowed says what the environment or JSON may hold for the field.
func (f field) allowed() string {
	switch kind := f.typ().Kind(); {
	case f.isDuration():
		return "a duration such as 500ms, 5s or 1h, " + limits()[f.name].allowed
	case f.name == "Port":
		return allowedPort + ", such as 6379"
	case kind == reflect.Bool, kind == reflect.Pointer:
		return "true or false"
	case kind == reflect.Int:
		return "a whole number, " + limits()[f.name].allowed
	case kind == reflect.Slice:
		return "a list of addresses as text"
	default:
		return "text"
	}
}
