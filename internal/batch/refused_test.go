package batch_test

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/batch"
	"github.com/compozy/cache/internal/redistest"
)

// A server that does not accept the connection has answered none of the commands.
func TestConnectionThatIsRefused(t *testing.T) {
	t.Parallel()
	options := redistest.Start(t).Options()
	options.Username, options.Password = "nobody", "wrong"
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	list := make([]batch.Keyed, 5)
	for i := range list {
		list[i] = batch.Keyed{Key: "k", Cmd: redis.NewStatusCmd(t.Context(), "set", "k", "v")}
	}
	list[1].Cmd.SetErr(errors.New("from before"))
	batch.Pipeline(t.Context(), client, nil, list, func([]int) {})
	for _, c := range list {
		require.ErrorContains(t, c.Cmd.Err(), "WRONGPASS")
	}
}
