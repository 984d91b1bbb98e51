package providers

import (
	"fmt"

	"go.uber.org/fx"

	"github.com/compozy/cache/config"
)

// Source remembers where a configuration came from, for the error of a start that
// fails. It is filled by [Resolve].
type Source struct {
	cfg  *config.Config // nil before
	text string
	// nodes is text for the lock nodes, where a variable of their own sets them.
	nodes string
	// environment is set if the program leaves the configuration to the environment.
	environment bool
}

// describe says where cfg, or its lock nodes, came from. One that is not the resolved one
// was put in its place by the application.
func (s *Source) describe(cfg *config.Config, lockNodes bool) string {
	text, nodes := s.text, s.nodes
	if s.cfg != cfg {
		text, nodes = "fx.Replace or fx.Decorate", ""
	}
	switch {
	case !lockNodes:
		return text
	case nodes != "":
		return nodes
	default:
		return "LockNodes of " + text
	}
}

// variables names the environment variables that say where Redis is.
func variables(prefix string, cfg *config.Config) string {
	def := config.Default()
	switch {
	case cfg.URL != "":
		return prefix + "REDIS_URL"
	case len(cfg.Addrs) > 0:
		return prefix + "REDIS_ADDRS"
	case cfg.Host != def.Host || cfg.Port != def.Port:
		return prefix + "REDIS_HOST and " + prefix + "REDIS_PORT"
	default:
		return "the defaults, as " + prefix + "REDIS_URL is not set"
	}
}

// namesGroup holds a reader for each named instance.
const namesGroup = "cache.names"

// reader is a named instance. byName is set if its name alone says which environment
// variables it reads.
type reader struct {
	name   string
	byName bool
}

// readers are all named instances.
type readers struct {
	fx.In
	All []reader `group:"cache.names"`
}

// refuseShared returns an error if r reads the environment variables of another instance
// without having been asked to: the two would be one server.
func (rs readers) refuseShared(r reader) error {
	for _, other := range rs.All {
		if r.byName && other.byName && r.name != other.name && envPrefix(r.name) == envPrefix(other.name) {
			return fmt.Errorf("%w: Named(%q) and Named(%q) both read %sREDIS_URL and so on: give one of them another name, "+
				"or pass WithEnvPrefix or WithConfig to it",
				ErrInvalidOption, min(r.name, other.name), max(r.name, other.name), envPrefix(r.name))
		}
	}
	return nil
}
