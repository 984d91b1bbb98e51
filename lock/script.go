package lock

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

var (
	//go:embed mark.lua
	markLua string
	//go:embed token.lua
	tokenLua string
	//go:embed handover.lua
	handOverLua string
	//go:embed acquire.lua
	acquireLua string
	//go:embed acquire_token.lua
	acquireTokenLua string
	//go:embed wait.lua
	waitLua string
	//go:embed release_free.lua
	releaseFreeLua string
	//go:embed giveback.lua
	giveBackLua string
	//go:embed release.lua
	releaseLua string
	//go:embed extend.lua
	extendLua string
	//go:embed raise.lua
	raiseLua string
	//go:embed join.lua
	joinLua string
)

// script is one of the Lua scripts.
type script struct {
	*redisx.Script

	// mark is the index of the argument that tells the script that it may have been executed before, -1 if it has none.
	mark int
}

// scripts is what a node is asked for.
type scripts struct{ acquire, wait, release, extend, raise, join *script }

// newScripts makes the scripts for a node. What never changes is in their source: as an argument of each call it would
// take Redis some time, and most calls do not need it.
func newScripts(several bool, grant time.Duration, strict bool, inbox string) scripts {
	constants := fmt.Sprintf("local several, grant, strict, inbox, all_is_well = %t, %d, %t, %s, %d\n",
		several, grant.Milliseconds(), strict, luaString(inbox), allIsWell)
	script := func(source string) *script { return &script{redisx.NewScript(source), -1} }
	s := scripts{
		acquire: script(constants + markLua + acquireLua + tokenLua + acquireTokenLua),
		wait:    script(constants + markLua + tokenLua + handOverLua + waitLua),
		release: script(releaseFreeLua + constants + markLua + tokenLua + handOverLua + giveBackLua + releaseLua),
		extend:  script(markLua + extendLua),
		raise:   script(constants + markLua + tokenLua + raiseLua),
		join:    script(constants + markLua + tokenLua + joinLua),
	}
	s.acquire.mark = 2
	return s
}

// luaString writes a string as Lua reads it, whatever its bytes.
func luaString(s string) string {
	var quoted strings.Builder
	quoted.WriteByte('"')
	for _, b := range []byte(s) {
		if b < ' ' || b > '~' || b == '"' || b == '\\' {
			fmt.Fprintf(&quoted, "\\%03d", b)
		} else {
			quoted.WriteByte(b)
		}
	}
	quoted.WriteByte('"')
	return quoted.String()
}

// call is what a script is to do once. All its keys have one hash tag.
type call struct {
	script *script
	keys   []string
	args   []any
}

func newCall(s *script, keys []string, args ...any) call {
	return call{script: s, keys: keys, args: args}
}

// repetition returns the call as it is sent when it may have been executed before.
func (c call) repetition() call {
	switch mark := c.script.mark; {
	case mark < 0:
	case mark == len(c.args):
		c.args = append(slices.Clip(c.args), "1")
	default:
		c.args = slices.Clone(c.args)
		c.args[mark] = "1"
	}
	return c
}

// command returns the command that asks for the script by its hash.
func (c call) command(ctx context.Context) *redis.Cmd {
	return c.script.Command(ctx, c.keys, c.args...)
}
