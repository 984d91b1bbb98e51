package notification

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis names scripts by their SHA-1; nothing secret depends on it.
	"encoding/hex"

	"github.com/redis/go-redis/v9"
)

// script is a Lua script that Redis is asked for by its hash, and given in full when it does not know it yet.
type script struct {
	source string
	hash   any // a string, as the argument it becomes with each call
}

func newScript(source string) *script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // see the import
	return &script{source: source, hash: hex.EncodeToString(sum[:])}
}

// once is a command that go-redis does not send again by itself. It is for scripts that must not be executed twice
// unless told that they may have been executed before.
type once struct{ *redis.Cmd }

// NoRetry is asked by go-redis before it would send a command again.
func (once) NoRetry() bool { return true }

// call begins the command that executes the script: the keys, which are strings, and room for the arguments to be
// appended.
func (s *script) call(arguments int, keys ...any) []any {
	command := make([]any, 0, 3+len(keys)+arguments)
	command = append(command, "evalsha", s.hash, len(keys))
	return append(command, keys...)
}

// run executes the script with one round trip, or two when the server has forgotten it. The script may be executed
// more than once: go-redis repeats what failed.
func (s *script) run(ctx context.Context, client redis.UniversalClient, command []any) (any, error) {
	return s.execute(command, func(cmd *redis.Cmd) error { return client.Process(ctx, cmd) })
}

// runOnce is run for a script that is executed once at most. An error of the network leaves open whether it was.
func (s *script) runOnce(ctx context.Context, client redis.UniversalClient, command []any) (any, error) {
	return s.execute(command, func(cmd *redis.Cmd) error { return client.Process(ctx, once{cmd}) })
}

func (s *script) execute(command []any, process func(*redis.Cmd) error) (any, error) {
	cmd := newCommand(command)
	err := process(cmd)
	if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
		command[0], command[1] = "eval", s.source
		cmd = newCommand(command)
		err = process(cmd)
	}
	if err != nil {
		return nil, err
	}
	return cmd.Val(), nil
}

func newCommand(command []any) *redis.Cmd {
	cmd := redis.NewCmd(context.Background(), command...)
	// The first key decides which node of a cluster gets the command.
	cmd.SetFirstKeyPos(3)
	return cmd
}
