package redisx

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis names scripts by their SHA-1; nothing secret depends on it
	"encoding/hex"
	"io/fs"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Script is a Lua script that a server is asked for by its hash, and given in full
// when it does not know it. It is safe for concurrent use.
type Script struct {
	// source and hash are strings, kept as the arguments that they become.
	source, hash any
}

// NewScript computes the hash of source, so make a Script once and keep it.
func NewScript(source string) *Script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // see the import
	return &Script{source: source, hash: hex.EncodeToString(sum[:])}
}

// Source returns the text of Lua files, one after the other, which are called names without their ".lua" and are part of the
// program: it panics if one is missing.
func Source(files fs.ReadFileFS, names ...string) string {
	var source strings.Builder
	for _, name := range names {
		text, err := files.ReadFile(name + ".lua")
		if err != nil {
			panic(err)
		}
		source.Write(text)
	}
	return source.String()
}

// beforeKeys is how many arguments EVALSHA has before the keys.
const beforeKeys = 3

// Command returns the EVALSHA that runs the script. args must not be changed by the
// caller any more.
func (s *Script) Command(ctx context.Context, keys []string, args ...any) *redis.Cmd {
	all := make([]any, beforeKeys, beforeKeys+len(keys)+len(args))
	all[0], all[1], all[2] = "evalsha", s.hash, len(keys)
	for _, key := range keys {
		all = append(all, key)
	}
	return command(ctx, append(all, args...))
}

// Full returns cmd, which Command made, as the EVAL that carries the source.
func (s *Script) Full(ctx context.Context, cmd *redis.Cmd) *redis.Cmd {
	all := append([]any{"eval", s.source}, cmd.Args()[2:]...)
	return command(ctx, all)
}

// command makes a command whose first key, if it has one, decides which node of a
// Cluster gets it.
func command(ctx context.Context, args []any) *redis.Cmd {
	cmd := redis.NewCmd(ctx, args...)
	if n, _ := args[2].(int); n > 0 {
		cmd.SetFirstKeyPos(beforeKeys)
	}
	return cmd
}

// Run runs the script and returns its reply: in one round trip, or two when the
// server does not know the script, which it then has not executed. process sends a
// command, as the Process of a client does.
func (s *Script) Run(
	ctx context.Context, process func(context.Context, redis.Cmder) error, keys []string, args ...any,
) (any, error) {
	cmd := s.Command(ctx, keys, args...)
	err := process(ctx, cmd)
	if IsUnknownScript(err) {
		cmd = s.Full(ctx, cmd)
		err = process(ctx, cmd)
	}
	if err != nil {
		return nil, err
	}
	return cmd.Val(), nil
}

// IsUnknownScript reports whether a server has refused an EVALSHA as it does not know
// the script: it was restarted or flushed, or another node has taken over.
func IsUnknownScript(err error) bool {
	return err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") // nil is by far the most frequent, and not cheap there
}
