package store

import (
	_ "embed"

	"github.com/compozy/cache/internal/redisx"
)

var (
	//go:embed clock.lua
	clockLua string
	//go:embed counter.lua
	counterLua string
	//go:embed take.lua
	takeLua string
	//go:embed acquire.lua
	acquireLua string
	//go:embed enqueue.lua
	enqueueLua string
	//go:embed pass.lua
	passLua string
	//go:embed release.lua
	releaseLua string
	//go:embed leave.lua
	leaveLua string
	//go:embed extend.lua
	extendLua string
	//go:embed raise.lua
	raiseLua string
	//go:embed repair.lua
	repairLua string
	//go:embed inspect.lua
	inspectLua string
)

// scripts is what a Redis is asked for.
type scripts struct{ acquire, enqueue, release, leave, extend, raise, repair, inspect *redisx.Script }

// newScripts makes the scripts for one of several servers, or for the only one.
func newScripts(several bool) scripts {
	tokens := clockLua
	if several {
		tokens = counterLua
	}
	return scripts{
		acquire: redisx.NewScript(tokens + takeLua + acquireLua),
		enqueue: redisx.NewScript(tokens + takeLua + enqueueLua),
		release: redisx.NewScript(passLua + releaseLua),
		leave:   redisx.NewScript(passLua + leaveLua),
		extend:  redisx.NewScript(extendLua),
		raise:   redisx.NewScript(raiseLua),
		repair:  redisx.NewScript(repairLua),
		inspect: redisx.NewScript(inspectLua),
	}
}
