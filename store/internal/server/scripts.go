package server

import (
	"embed"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/near"
	"github.com/compozy/cache/store/internal/wake"
)

//go:embed *.lua
var sources embed.FS

// scripts is what a Redis is asked for.
type scripts struct{ get, put, remove, drop, touch, epoch, invalidate *redisx.Script }

func newScripts() scripts {
	return scripts{
		get: redisx.NewScript(redisx.Source(sources, "get")), put: script("put"), remove: script("delete"), drop: script("drop"),
		touch: script("touch"), epoch: redisx.NewScript(redisx.Source(sources, "tag", "epoch")),
		invalidate: redisx.NewScript(entry.Lua + near.Lua + redisx.Source(sources, "tag", "invalidate")),
	}
}

// script makes a script that knows of entries, of those who wait for a lease, and of near caches.
func script(name string) *redisx.Script {
	return redisx.NewScript(entry.Lua + wake.Lua + near.Lua + redisx.Source(sources, name))
}
