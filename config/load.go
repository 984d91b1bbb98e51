package config

import (
	"context"
	"reflect"
	"slices"
	"strings"

	"github.com/sethvargo/go-envconfig"
)

// Load reads the environment and returns a complete, valid Config. Each variable
// is looked up as prefix followed by its name: with the prefix "APP_" the URL is
// APP_REDIS_URL. A variable that is unset or empty means the default.
//
// All bad variables are reported at once, as an [*Error] that names each of them,
// its value (secrets left out) and what is allowed. The returned Config is then nil.
func Load(ctx context.Context, prefix string) (*Config, error) {
	return load(ctx, prefix, envconfig.OsLookuper())
}

func load(ctx context.Context, prefix string, env envconfig.Lookuper) (*Config, error) {
	lookuper := setOnly{envconfig.PrefixLookuper(prefix, env)}
	c := Default()
	given := make(map[string]bool)
	bad := make(map[string]FieldError)
	for _, f := range fields() {
		if f.env == "" {
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
				Value: showText(f, raw), Allowed: allowedFor(reflect.TypeFor[Config]().Field(f.index).Type),
			}
			continue
		}
		reflect.ValueOf(c).Elem().Field(f.index).Set(v)
	}
	c.fitDefaults(given)
	if err := c.check(prefix, bad); err != nil {
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
	target := reflect.New(reflect.StructOf([]reflect.StructField{reflect.TypeFor[Config]().Field(f.index)}))
	err := envconfig.ProcessWith(ctx, &envconfig.Config{
		Target:   target.Interface(),
		Lookuper: env,
		Mutators: []envconfig.Mutator{envconfig.MutatorFunc(minusOne)},
	})
	if err != nil {
		return reflect.Value{}, err
	}
	v := target.Elem().Field(0)
	if list, ok := reflect.TypeAssert[[]string](v); ok {
		// "a:1,b:2," is a list of two.
		v.Set(reflect.ValueOf(slices.DeleteFunc(list, func(s string) bool { return s == "" })))
	}
	return v, nil
}

// minusOne lets the -1 that means "none" be written without a unit for durations;
// for whole numbers it changes nothing that matters.
func minusOne(_ context.Context, _, key, _, value string) (string, bool, error) {
	if value == "-1" && strings.HasSuffix(key, "_BACKOFF") {
		return "-1ns", false, nil
	}
	return value, false, nil
}

// setOnly hides empty variables: deployment files often write NAME= for "not set".
type setOnly struct{ envconfig.Lookuper }

func (l setOnly) Lookup(key string) (string, bool) {
	v, ok := l.Lookuper.Lookup(key)
	return v, ok && v != ""
}
