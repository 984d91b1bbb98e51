package config

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"github.com/sethvargo/go-envconfig"
)

// Load reads the environment and returns a complete, valid Config. Each variable
// is looked up as prefix followed by its name: with the prefix "APP_" the URL is
// APP_REDIS_URL. A variable that is unset or empty means the default.
//
// All bad variables are reported at once, as an [*Error] that names each of them,
// its value (secrets left out) and what is allowed. The returned Config is then nil.
func Load(ctx context.Context, prefix string) (*Config, error) {
	return load(ctx, prefix, envconfig.OsLookuper(), nil)
}

// LoadWith is Load for a program that leads the client to a server of its own, such
// as an embedded one: server is called with the Config before it is checked. What the
// environment says about address, database number, topology, credentials and TLS is not
// even read, so that stray variables do no harm; those fields have their defaults when
// server gets the Config.
func LoadWith(ctx context.Context, prefix string, server func(*Config)) (*Config, error) {
	return load(ctx, prefix, envconfig.OsLookuper(), server)
}

// load reads env. Without a function for the server that, too, comes from env.
func load(ctx context.Context, prefix string, env envconfig.Lookuper, server func(*Config)) (*Config, error) {
	lookuper := setOnly{envconfig.PrefixLookuper(prefix, env)}
	c := Default()
	c.prefix = prefix
	given := make(map[string]bool)
	bad := make(map[string]FieldError)
	for _, f := range fields() {
		if f.env == "" || (f.server && server != nil) {
			continue
		}
		raw, ok := lookuper.Lookup(f.env)
		if !ok {
			continue
		}
		given[f.name] = true
		v, err := decodeEnv(ctx, f, lookuper)
		if err != nil {
			// The library's error quotes the value, so it is dropped.
			bad[f.name] = FieldError{
				Field: f.name, Variable: prefix + f.env,
				Value: showText(f, raw), Allowed: f.allowed(), Hint: hintFor(f, raw),
			}
			continue
		}
		reflect.ValueOf(c).Elem().Field(f.index).Set(v)
	}
	c.fitDefaults(given)
	if server != nil {
		server(c)
		c.prefix = prefix // if it replaced all of c
	}
	c.clean()
	if err := c.check(bad); err != nil {
		return nil, err
	}
	c.normalise()
	return c, nil
}

// decodeEnv reads the variable of a single field, or its default. go-envconfig
// gives up at the first field that fails, so each is decoded in a struct of its own.
// The result is invalid if the field has no variable.
func decodeEnv(ctx context.Context, f field, env envconfig.Lookuper) (reflect.Value, error) {
	if f.env == "" {
		return reflect.Value{}, nil
	}
	if f.isDuration() {
		text, ok := env.Lookup(f.env)
		if !ok {
			text = f.fallback
		}
		d, err := parseDuration(text)
		return reflect.ValueOf(d), err
	}
	if f.typ().Kind() == reflect.Int {
		text, ok := env.Lookup(f.env)
		if !ok {
			text = f.fallback
		}
		n, err := parseNumber(text)
		return reflect.ValueOf(n), err
	}
	if kind := f.typ().Kind(); kind != reflect.String && kind != reflect.Slice {
		env = trimmed{env}
	}
	target := reflect.New(reflect.StructOf([]reflect.StructField{reflect.TypeFor[Config]().Field(f.index)}))
	err := envconfig.ProcessWith(ctx, &envconfig.Config{Target: target.Interface(), Lookuper: env})
	if err != nil {
		return reflect.Value{}, err
	}
	v := target.Elem().Field(0)
	if list, ok := reflect.TypeAssert[[]string](v); ok {
		// "a:1,b:2," is a list of two.
		list = slices.DeleteFunc(list, func(s string) bool { return s == "" })
		v.Set(reflect.ValueOf(list))
		if _, given := env.Lookup(f.env); given && len(list) == 0 {
			return v, errors.New("no address in the list") // it is not the same as no list
		}
	}
	return v, nil
}

// setOnly hides empty variables: deployment files often write NAME= for "not set".
type setOnly struct{ envconfig.Lookuper }

func (l setOnly) Lookup(key string) (string, bool) {
	v, ok := l.Lookuper.Lookup(key)
	return v, ok && v != ""
}

// trimmed removes blanks and line breaks around numbers and truth values.
type trimmed struct{ envconfig.Lookuper }

func (l trimmed) Lookup(key string) (string, bool) {
	v, ok := l.Lookuper.Lookup(key)
	return trimBlanks(v), ok
}
