package providers

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"go.uber.org/fx"

	"github.com/compozy/cache/config"
)

// byValue is a Config without a pointer that an application has put into the graph for an
// instance. No constructor asks for one.
type byValue struct {
	value    config.Config
	provided *providedByValue // nil if it was not provided: there is none, or only one in place of what nobody provides
}

func newByValue(i Instance) any {
	target := func(v config.Config, p *providedByValue) byValue { return byValue{v, p} }
	return located(fx.Annotate(target, fx.ParamTags(nameTag(i)+`optional:"true"`, `optional:"true"`)), target)
}

// providedByValue is there if an application has provided a Config by value: a zero one looks like none.
type providedByValue struct{}

func newProvidedByValue(i Instance) any {
	target := func(config.Config) *providedByValue { return &providedByValue{} }
	return located(fx.Annotate(target, fx.ParamTags(nameTag(i))), target)
}

// nameTag returns what a tag says of the name of what an instance takes.
func nameTag(i Instance) string {
	if i.Name == "" {
		return ""
	}
	return fmt.Sprintf("name:%q ", i.Name)
}

// givenGroup holds the settings of the unnamed instance that WithConfig and WithEnvPrefix
// make. Those of the SettingsGroup may start a server.
const givenGroup = "cache.given"

// given is what an application says about the configuration of the unnamed instance.
type given struct {
	fx.In
	Settings     []Setting     `group:"cache.given"`
	Replacements []replacement `group:"cache.replacements"`
}

// refuseByValue refuses a Config by value, which Fx accepts and then ignores, as the
// application would use another server than the one it names.
func refuseByValue(cfg input[*config.Config], v byValue, from *Source, in given) error {
	replaced := slices.ContainsFunc(in.Replacements, func(r replacement) bool { return same(r.value, cfg.value) })
	return checkByValue(Instance{}, v, cfg.value, replaced || cfg.value == from.cfg, in.Settings)
}

func refuseNamedByValue(i Instance, settings []Setting) any {
	return func(cfg input[*config.Config], v byValue, from *Source) error {
		return checkByValue(i, v, cfg.value, cfg.value == from.cfg, settings)
	}
}

// checkByValue returns an error for a value that is neither cfg, which the instance uses, nor
// what it would use without a replacement: an application may want either without the pointer,
// for code of its own. A cfg that is not ours comes from a decorator, which may have used the value.
func checkByValue(i Instance, v byValue, cfg *config.Config, ours bool, settings []Setting) error {
	none := v.provided == nil && reflect.ValueOf(v.value).IsZero()
	if !ours || none || derived(v.value, cfg) {
		return nil
	}
	prefix := ""
	if i.Name != "" {
		prefix = envPrefix(i.Name)
	}
	if resolved, err := Resolve(context.Background(), prefix, settings); err == nil && derived(v.value, resolved.cfg) {
		return nil
	}
	return fmt.Errorf("%w: a cache.Config by value has no effect on instance %q: write cache.WithConfig(&config), or in "+
		"tests cache.ReplaceConfig(&config), not fx.Supply, fx.Provide or fx.Replace of it", ErrInvalidOption, i.label())
}

// derived reports whether value and cfg are the same configuration.
func derived(value config.Config, cfg *config.Config) bool {
	a, b := value.WithDefaults(), cfg.WithDefaults()
	a.Dialer, a.Credentials, b.Dialer, b.Credentials = nil, nil, nil, nil // functions are never equal
	return reflect.DeepEqual(a, b)
}
