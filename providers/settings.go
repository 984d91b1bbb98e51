package providers

import (
	"context"
	"errors"
	"fmt"
	"io"

	"go.uber.org/fx"

	"github.com/compozy/cache/config"
)

// Errors of contradictory or empty options. They are returned by fx.New (or its
// Err method), wrapped with what is wrong.
var (
	// ErrConflictingOptions means that two options say where the configuration
	// comes from.
	ErrConflictingOptions = errors.New("cache: conflicting options")
	// ErrInvalidOption means that an option was given an unusable value.
	ErrInvalidOption = errors.New("cache: invalid option")
)

// Setting says where an instance gets its configuration from. Settings travel
// in a value group and not as fx.Replace, since Fx accepts a single replacement
// of a type: production code would use it up, and tests could not replace the
// configuration any more.
type Setting struct {
	// Source is the call that made the setting, for error messages.
	Source string
	// Config is used instead of the environment.
	Config *config.Config
	// EnvPrefix stands before the name of every environment variable.
	EnvPrefix string
	// Override changes the configuration of the other settings so that it leads to a
	// server of its own. What the environment says about address, topology, credentials
	// and TLS is then not even read.
	Override func(*config.Config)
}

// Option is an fx.Option that carries its setting along, so that a named
// instance can take it for itself, or what it provides there, or the error that
// keeps it from being one.
type Option struct {
	fx.Option
	setting Setting
	part    func(i Instance) fx.Option // nil for a setting
	err     error
}

var _ fmt.Formatter = Option{}

// Format writes what Fx says of the option, whatever the verb: for one that does not fit, fmt would show all fields, and
// the setting has a Config with its password.
func (o Option) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, o.String()) }

// WithConfig makes the unnamed instance use cfg instead of the environment.
func WithConfig(cfg *config.Config) fx.Option {
	if cfg == nil {
		return unusable("WithConfig: the config is nil")
	}
	return supply(Setting{Source: "WithConfig", Config: cfg})
}

// WithEnvPrefix makes the unnamed instance read prefix+"REDIS_URL" and so on.
func WithEnvPrefix(prefix string) fx.Option {
	if prefix == "" {
		return unusable("WithEnvPrefix: the prefix is empty")
	}
	return supply(Setting{Source: "WithEnvPrefix", EnvPrefix: prefix})
}

func supply(s Setting) Option {
	target := func() Setting { return s }
	return Option{
		Option: fx.Options(
			fx.Provide(fx.Annotated{Group: SettingsGroup, Target: target}, fx.Annotated{Group: givenGroup, Target: target}),
			needsModule(s.Source),
		),
		setting: s,
	}
}

func unusable(reason string) Option {
	err := fmt.Errorf("%w: %s", ErrInvalidOption, reason)
	return Option{Option: fx.Error(err), err: err}
}

// Resolve turns settings, whose order is random, into one valid Config, and says where
// it came from. Without a base among them it reads the environment, with defaultPrefix
// before the names of the variables. It names what contradicts instead of letting one
// setting win by chance.
func Resolve(ctx context.Context, defaultPrefix string, settings []Setting) (*Source, error) {
	base := Setting{EnvPrefix: defaultPrefix}
	var override Setting
	for _, s := range settings {
		slot := &base
		if s.Override != nil {
			slot = &override
		}
		if slot.Source != "" {
			return nil, fmt.Errorf("%w: %s and %s: use one of them, and in tests cache.ReplaceConfig",
				ErrConflictingOptions, min(slot.Source, s.Source), max(slot.Source, s.Source))
		}
		*slot = s
	}

	from := &Source{text: base.Source}
	var err error
	switch {
	case base.Config != nil:
		from.cfg = base.Config.WithDefaults()
		if override.Override != nil {
			override.Override(from.cfg)
		}
	case override.Override != nil:
		from.cfg, err = config.LoadWith(ctx, base.EnvPrefix, override.Override)
		from.environment = true
	default:
		from.cfg, err = config.Load(ctx, base.EnvPrefix)
		from.environment = true
	}
	if err != nil {
		return nil, err
	}
	switch {
	case override.Override != nil:
		from.text = override.Source
	case from.environment:
		from.text, from.nodes = variables(base.EnvPrefix, from.cfg), base.EnvPrefix+"REDIS_LOCK_NODES"
	}
	if err := from.cfg.Validate(); err != nil {
		return nil, err
	}
	return from, nil
}

// Config returns what was resolved.
func (s *Source) Config() *config.Config { return s.cfg }
