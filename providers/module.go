package providers

import (
	"context"
	"fmt"

	"go.uber.org/fx"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/health"
)

// Module is the unnamed instance.
func Module() fx.Option {
	return fx.Module("cache",
		constructors(Instance{}, "", SettingsGroup),
		fx.Provide(fx.Annotate(health.New, fx.ParamTags(group(HealthGroup)))),
	)
}

// Named is a further instance, for a second Redis server. All that the unnamed
// one provides is there under name:"<name>". Its configuration comes from
// opts, which take WithConfig and WithEnvPrefix, or else from the environment
// with the upper-case name as prefix: SESSIONS_REDIS_URL for "sessions".
func Named(name string, opts ...fx.Option) fx.Option {
	prefix, err := envPrefix(name)
	if err != nil {
		return fx.Error(err)
	}
	settings := SettingsGroup + "." + name
	all := []fx.Option{constructors(Instance{Name: name}, prefix, settings)}
	for _, opt := range opts {
		o, ok := opt.(Option)
		if !ok {
			return fx.Error(fmt.Errorf("%w: Named(%q) takes WithConfig and WithEnvPrefix, not %v",
				ErrInvalidOption, name, opt))
		}
		all = append(all, fx.Supply(fx.Annotate(o.setting, fx.ResultTags(group(settings)))))
	}
	return fx.Module("cache."+name, all...)
}

// constructors provides the parts of one instance and makes its client start
// with the application. The other parts start when somebody asks for them.
func constructors(i Instance, envPrefix, settings string) fx.Option {
	name := tag(i.Name)
	results := fx.ResultTags(name, flatten(HealthGroup), group(MetricsGroup))
	newConfig := func(s []Setting) (*config.Config, error) {
		return configuration(context.Background(), envPrefix, s)
	}
	return fx.Options(
		fx.Provide(
			fx.Annotate(newConfig, fx.ParamTags(group(settings)), fx.ResultTags(name)),
			fx.Annotate(i.Redis, fx.ParamTags("", name, optional, optional), results),
			fx.Annotate(i.Universal, fx.ParamTags(name), fx.ResultTags(name)),
			fx.Annotate(i.Locks, fx.ParamTags("", name, name, name, optional), results),
			fx.Annotate(i.LockManager, fx.ParamTags(name), fx.ResultTags(name)),
			fx.Annotate(i.Notifications, fx.ParamTags("", name, name, optional), results),
			fx.Annotate(i.NotificationSystem, fx.ParamTags(name), fx.ResultTags(name)),
		),
		fx.Invoke(fx.Annotate(func(*client.Redis) {}, fx.ParamTags(name))),
	)
}

// envPrefix turns a name into the prefix of its environment variables, and
// refuses a name that cannot be one.
func envPrefix(name string) (string, error) {
	prefix := []byte(name)
	for i, c := range prefix {
		switch {
		case 'a' <= c && c <= 'z':
			prefix[i] = c - 'a' + 'A'
		case c == '-':
			prefix[i] = '_'
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9' && i > 0, c == '_':
		default:
			return "", fmt.Errorf("%w: Named: the name %q may contain letters, digits, - and _ only, and must not begin with a digit",
				ErrInvalidOption, name)
		}
	}
	switch name {
	case "":
		return "", fmt.Errorf("%w: Named: the name is empty", ErrInvalidOption)
	case defaultLabel:
		return "", fmt.Errorf("%w: Named: %q is what metrics and logs call the unnamed instance", ErrInvalidOption, name)
	}
	return string(prefix) + "_", nil
}
