package embedded

import (
	"go.uber.org/fx"

	"github.com/compozy/cache/providers"
)

// Module makes an application that includes cache.Module run on an embedded
// server of its own, without further configuration, and provides the *Server:
//
//	fx.New(cache.Module, embedded.Module(), …)
//
// What the environment or cache.WithConfig say about the address, database number,
// credentials and TLS of Redis no longer counts; everything else does, such as the key
// prefix. Replacing the configuration (cache.ReplaceConfig) replaces the server
// with it. An instance of cache.Named is not touched; give it
// cache.WithConfig(server.Config()).
//
// The server stops after the client. It is reached in memory; with WithAddr the
// application opens a port as well.
func Module(opts ...Option) fx.Option {
	newServer := func(lc fx.Lifecycle) *Server {
		s := New(opts...)
		// Two hooks, stop first: the stop of a hook whose own start failed is
		// never called.
		lc.Append(fx.StopHook(s.Close))
		if s.listenAddr != "" {
			lc.Append(fx.StartHook(s.Start))
		}
		return s
	}
	return fx.Module("cache.embedded",
		fx.Provide(
			newServer,
			// The client needs the configuration and the configuration, through
			// this setting, the server: therefore the server's hooks come first,
			// and it stops last.
			fx.Annotated{Group: providers.SettingsGroup, Target: setting},
		),
	)
}

// setting makes a configuration, wherever it comes from, lead to s.
func setting(s *Server) providers.Setting {
	return providers.Setting{Source: "embedded.Module", Override: s.configure}
}
