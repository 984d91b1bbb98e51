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
type byValue struct{ value config.Config }

func newByValue(i Instance) any {
	target := func(v config.Config) byValue { return byValue{v} }
	tags := `optional:"true"`
	if i.Name != "" {
		tags = fmt.Sprintf("name:%q ", i.Name) + tags
	}
	return located(fx.Annotate(target, fx.ParamTags(tags)), target)
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
	return checkByValue(Instance{}, v.value, cfg.value, replaced || cfg.value == from.cfg, in.Settings)
}

func refuseNamedByValue(i Instance, settings []Setting) any {
	return func(cfg input[*config.Config], v byValue, from *Source) error {
		return checkByValue(i, v.value, cfg.value, cfg.value == from.cfg, settings)
	}
}

// checkByValue returns an error for a value that is neither cfg, which the instance uses, nor
// what it would use without a replacement: an application may want either without the pointer,
// for code of its own. A cfg that is not ours comes from a decorator, which may have used the value.
func checkByValue(i Instance, value config.Config, cfg *config.Config, ours bool, settings []Setting) error {
	if !ours || reflect.ValueOf(value).IsZero() || derived(value, cfg) {
		return nil
	}
	prefix := ""
	if i.Name != "" {
		prefix = envPrefix(i.Name)
	}
	if resolved, err := Resolve(context.Background(), prefix, settings); err == nil && derived(value, resolved.cfg) {
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
