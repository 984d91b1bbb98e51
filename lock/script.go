package lock

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis names scripts by their SHA-1; nothing secret depends on it
	_ "embed"
	"encoding/hex"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed token.lua
	tokenLua string
	//go:embed handover.lua
	handOverLua string
	//go:embed acquire.lua
	acquireLua string
	//go:embed wait.lua
	waitLua string
	//go:embed release_free.lua
	releaseFreeLua string
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
	index        int
	source, hash string
}

func newScript(index int, source string) *script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // see the import
	return &script{index: index, source: source, hash: hex.EncodeToString(sum[:])}
}

// The scripts are constants that Go cannot express as such.
//
//nolint:gochecknoglobals // never written
var (
	acquireScript = newScript(0, tokenLua+acquireLua)
	waitScript    = newScript(1, tokenLua+handOverLua+waitLua)
	releaseScript = newScript(2, releaseFreeLua+tokenLua+handOverLua+releaseLua)
	extendScript  = newScript(3, extendLua)
	raiseScript   = newScript(4, raiseLua)
	joinScript    = newScript(5, joinLua)
)

const scriptCount = 6

// command returns the command that runs the script: by hash, or with its whole source.
func (s *script) command(ctx context.Context, whole bool, keys, args []any) *redis.Cmd {
	all := make([]any, 0, 3+len(keys)+len(args))
	if whole {
		all = append(all, "eval", s.source, len(keys))
	} else {
		all = append(all, "evalsha", s.hash, len(keys))
	}
	cmd := redis.NewCmd(ctx, append(append(all, keys...), args...)...)
	cmd.SetFirstKeyPos(3) // decides which node of a cluster gets it
	return cmd
}

// once is a command that go-redis does not repeat by itself: where a repetition must know that an earlier attempt may
// have been executed.
type once struct{ *redis.Cmd }

// NoRetry is asked by go-redis before it sends a command again.
func (once) NoRetry() bool { return true }
