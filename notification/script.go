package notification

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis names scripts by their SHA-1; nothing secret depends on it.
	"encoding/hex"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

// script is a Lua script that Redis is asked for by its hash, and given in full when it does not know it yet.
type script struct{ source, hash string }

func newScript(source string) *script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // see the import
	return &script{source: source, hash: hex.EncodeToString(sum[:])}
}

// once is a command that go-redis does not send again by itself. It is for scripts that must not be executed twice
// unless told that they may have been executed before.
type once struct{ *redis.Cmd }

// NoRetry is asked by go-redis before it would send a command again.
func (once) NoRetry() bool { return true }

// run executes the script with one round trip, or two when the server has forgotten it. The script may be executed
// more than once: go-redis repeats what failed.
func (s *script) run(ctx context.Context, client redis.UniversalClient, keys []string, args ...any) (any, error) {
	return s.execute(ctx, client, false, keys, args)
}

// runOnce is run for a script that is executed once at most. An error of the network leaves open whether it was.
func (s *script) runOnce(ctx context.Context, client redis.UniversalClient, keys []string, args ...any) (any, error) {
	return s.execute(ctx, client, true, keys, args)
}

func (s *script) execute(ctx context.Context, client redis.UniversalClient, single bool, keys []string, args []any) (any, error) {
	reply, err := eval(ctx, client, single, "evalsha", s.hash, keys, args)
	if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
		reply, err = eval(ctx, client, single, "eval", s.source, keys, args)
	}
	return reply, err
}

func eval(ctx context.Context, client redis.UniversalClient, single bool, name, what string, keys []string, args []any) (any, error) {
	all := make([]any, 0, 3+len(keys)+len(args))
	all = append(all, name, what, len(keys))
	for _, key := range keys {
		all = append(all, key)
	}
	cmd := redis.NewCmd(ctx, append(all, args...)...)
	// The first key decides which node of a cluster gets the command.
	cmd.SetFirstKeyPos(3)
	var err error
	if single {
		err = client.Process(ctx, once{cmd})
	} else {
		err = client.Process(ctx, cmd)
	}
	if err != nil {
		return nil, err
	}
	return cmd.Val(), nil
}

// sleep waits for d and reports whether it did: false means that ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// backoff grows exponentially from low to high, with jitter so that many clients do not come back in step.
func backoff(attempt int, low, high time.Duration) time.Duration {
	d := min(low<<min(attempt-1, 16), high)
	return d/2 + rand.N(d/2+1)
}
