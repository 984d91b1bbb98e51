package client

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/config"
	"github.com/compozy/cache/internal/redistest"
)

// A command without an error looks like a success without a value. One of the pipeline may have
// an error from before, as it was sent before.
func TestPipelineThatIsNotSent(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	srv, locked := redistest.Start(t), redistest.Start(t, redistest.WithPassword("pw"))
	nodes := func(srv *redistest.Server) *config.Config {
		return &config.Config{URL: "redis://" + srv.Addr(), Password: "wrong", LockNodes: []string{srv.Addr()}}
	}
	closed := open(t, nodes(srv))
	require.NoError(t, closed.Close())
	for name, test := range map[string]struct {
		client *Redis
		is     func(error) bool
	}{
		"not open": {build(t, nodes(srv)), func(err error) bool { return errors.Is(err, ErrNotStarted) }},
		"closed":   {closed, func(err error) bool { return errors.Is(err, redis.ErrClosed) }},
		"refused":  {open(t, nodes(locked)), isAuth},
	} {
		for _, c := range append(test.client.LockNodes(), test.client) {
			for how, pipe := range map[string]redis.Pipeliner{"pipeline": c.Pipeline(), "transaction": c.TxPipeline()} {
				before := redis.NewStringCmd(ctx, "get", "k")
				before.SetErr(errors.New("from before"))
				require.NoError(t, pipe.Process(ctx, before))
				pipe.Set(ctx, "k", "v", 0)
				pipe.Incr(ctx, "n")
				cmds, err := pipe.Exec(ctx)
				require.True(t, test.is(err), "%s %s: %v", name, how, err)
				for _, cmd := range cmds {
					require.True(t, cmd.Err() != nil && test.is(cmd.Err()), "%s %s: %v", name, how, cmd)
				}
			}
		}
	}
}

// afterwards is a hook that panics when a pipeline has been sent.
type afterwards struct{ redistest.Hook }

func (afterwards) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if cmds[len(cmds)-1].Name() == "incr" {
			panic("boom")
		}
		return err
	}
}

// What go-redis sends where a connection begins may also begin a pipeline of the application, whose panics are its own and must
// not look like commands that were not sent.
func TestPanicInAPipelineOfTheApplication(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	r := ready(t, &config.Config{URL: srv.URL()})
	r.AddHook(afterwards{})
	for name, first := range map[string]func(redis.Pipeliner){
		"client getname": func(p redis.Pipeliner) { p.ClientGetName(t.Context()) },
		"client setname": func(p redis.Pipeliner) { p.Do(t.Context(), "client", "setname", "x") },
		"select":         func(p redis.Pipeliner) { p.Do(t.Context(), "select", 0) },
		"auth":           func(p redis.Pipeliner) { p.Do(t.Context(), "auth", "pw") },
		"get":            func(p redis.Pipeliner) { p.Get(t.Context(), "k") },
	} {
		require.PanicsWithValue(t, "boom", func() {
			_, _ = r.Pipelined(t.Context(), func(p redis.Pipeliner) error {
				first(p)
				return p.Incr(t.Context(), "n").Err()
			})
		}, name)
	}
	require.Equal(t, "5", srv.Client(t).Get(t.Context(), "n").Val())
}

func TestHookShowsNoPassword(t *testing.T) {
	t.Parallel()
	r := build(t, &config.Config{
		MasterName: "m", Addrs: []string{"127.0.0.1:1"}, Password: quotedPassword, SentinelPassword: quotedPassword,
		LockNodes: []string{"redis://:" + quotedPassword + "@127.0.0.1:2"},
	})
	node, _ := r.LockNodes()[0].(lockNode)
	for _, what := range []any{r, r.ConnectionHook(), node, node.ConnectionHook(), &commandHook{guardHook: guardHook{sentinelPassword: quotedPassword}}} {
		silent(t, what)
		silent(t, struct{ What any }{what})
		require.NotContains(t, fmt.Sprintf("%x", what), fmt.Sprintf("%x", quotedPassword))
	}
}
