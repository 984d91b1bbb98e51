package lock

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis names scripts by their SHA-1; nothing secret depends on it
	_ "embed"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
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
	//go:embed plain.lua
	plainLua string
	//go:embed acquire_many.lua
	acquireManyLua string
	//go:embed acquire_token.lua
	acquireTokenLua string
	//go:embed wait.lua
	waitLua string
	//go:embed release_free.lua
	releaseFreeLua string
	//go:embed giveback.lua
	giveBackLua string
	//go:embed release_many.lua
	releaseManyLua string
	//go:embed release.lua
	releaseLua string
	//go:embed extend.lua
	extendLua string
	//go:embed raise.lua
	raiseLua string
	//go:embed join.lua
	joinLua string
)

// script is a Lua script that Redis is asked for by its hash. index is its place in node.loaded.
type script struct {
	index  int
	source string
	hash   any // a string
	// mark is the place of the argument that tells the script that it may have been executed before, 0 if there is none.
	mark int
	// many, if it is not nil, is the script that does in one run what several ordinary calls of this one ask for. Those
	// have so many keys and params, and get one entry each of a list.
	many         *script
	keys, params int
}

// scripts is what a node is asked for.
type scripts struct{ acquire, wait, release, extend, raise, join *script }

const scriptCount = 8

// newScripts makes the scripts for a node. What never changes is in their source: as an argument of each call it would
// take Redis some time, and most calls do not need it.
func newScripts(several bool, grant time.Duration, strict bool, inbox string) scripts {
	constants := fmt.Sprintf("local several, grant, strict, inbox, all_is_well = %t, %d, %t, %s, %d\n",
		several, grant.Milliseconds(), strict, luaString(inbox), allIsWell)
	count := 0
	script := func(source string) *script {
		sum := sha1.Sum([]byte(source)) //nolint:gosec // see the import
		count++
		return &script{index: count - 1, source: source, hash: hex.EncodeToString(sum[:])}
	}
	s := scripts{
		acquire: script(constants + markLua + acquireLua + tokenLua + acquireTokenLua),
		wait:    script(constants + markLua + tokenLua + handOverLua + waitLua),
		release: script(releaseFreeLua + constants + markLua + tokenLua + handOverLua + giveBackLua + releaseLua),
		extend:  script(markLua + extendLua),
		raise:   script(constants + markLua + tokenLua + raiseLua),
		join:    script(constants + markLua + tokenLua + joinLua),
	}
	s.acquire.mark = beforeKeys + 4
	s.acquire.many = script(constants + tokenLua + plainLua + acquireManyLua)
	s.acquire.keys, s.acquire.params = 2, 2
	s.release.many = script(constants + markLua + tokenLua + handOverLua + giveBackLua + plainLua + releaseManyLua)
	s.release.keys, s.release.params = 4, 1
	s.extend.many, s.extend.keys, s.extend.params = s.extend, 1, 2
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

// call is what a script is to do once.
type call struct {
	script *script
	args   []any // of the command, from its name on
	whole  bool  // the source goes along
}

// beforeKeys is how many arguments EVALSHA has before the keys.
const beforeKeys = 3

// newCall makes a call; params is the keys, as many as keys says, and after them the script's arguments.
func newCall(s *script, keys int, params ...any) call {
	args := make([]any, beforeKeys, beforeKeys+len(params))
	args[0], args[1], args[2] = "evalsha", s.hash, keys
	return call{script: s, args: append(args, params...)}
}

// repetition returns the call as it is sent when it may have been executed before.
func (c call) repetition() call {
	switch mark := c.script.mark; {
	case mark == 0:
	case mark == len(c.args):
		c.args = append(slices.Clip(c.args), "1")
	default:
		c.args = slices.Clone(c.args)
		c.args[mark] = "1"
	}
	return c
}

// command returns the command that asks for the script, by its hash unless the source is to go along.
func (c call) command(ctx context.Context) *redis.Cmd {
	if c.whole {
		c.args = slices.Clone(c.args)
		c.args[0], c.args[1] = "eval", c.script.source
	}
	cmd := redis.NewCmd(ctx, c.args...)
	cmd.SetFirstKeyPos(beforeKeys) // decides which node of a cluster gets it
	return cmd
}

// once is a command that go-redis does not repeat by itself.
type once struct{ *redis.Cmd }

// NoRetry is asked by go-redis before it sends a command again.
func (once) NoRetry() bool { return true }
