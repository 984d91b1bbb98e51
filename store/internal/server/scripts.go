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
		get: redisx.NewScript(source("get")), put: script("put"), remove: script("delete"), drop: script("drop"),
		touch: script("touch"), epoch: redisx.NewScript(source("tag") + source("epoch")),
		invalidate: redisx.NewScript(entry.Lua + near.Lua + source("tag") + source("invalidate")),
	}
}

// script makes a script that knows of entries, of those who wait for a lease, and of near caches.
func script(name string) *redisx.Script {
	return redisx.NewScript(entry.Lua + wake.Lua + near.Lua + source(name))
}

func source(name string) string {
	text, err := sources.ReadFile(name + ".lua")
	if err != nil {
		panic(err) // impossible: the files are part of the program
	}
	return string(text)
}
