package redisx_test

import (
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/internal/redisx"
)

func TestScriptIsLoadedWhenItIsUnknown(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	script := redisx.NewScript(`return {KEYS[1], ARGV[1], redis.call('INCR', KEYS[1])}`)
	run := func(want int64) {
		t.Helper()
		reply, err := script.Run(t.Context(), client.Process, []string{"n"}, "x")
		require.NoError(t, err)
		require.Equal(t, []any{"n", "x", want}, reply)
	}
	run(1)
	server.ResetCommands(t)
	run(2)
	counts := server.Commands(t)
	assert.EqualValues(t, 1, counts["evalsha"], "one round trip")
	assert.Zero(t, counts["eval"])

	require.NoError(t, client.ScriptFlush(t.Context()).Err())
	run(3)

	_, err := redisx.NewScript(`return redis.error_reply('NOPE it went wrong')`).Run(t.Context(), client.Process, nil)
	require.True(t, redis.HasErrorPrefix(err, "NOPE"))
}

func TestScriptGoesToTheNodeOfItsKey(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), MaxRedirects: -1})
	t.Cleanup(func() { _ = client.Close() })
	script := redisx.NewScript(`return redis.call('INCR', KEYS[1])`)
	for i := range 30 { // each node does not know it at first
		reply, err := script.Run(t.Context(), client.Process, []string{fmt.Sprint("key ", i)})
		require.NoError(t, err)
		require.EqualValues(t, 1, reply)
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"a.lua": {Data: []byte("first\n")}, "b.lua": {Data: []byte("second\n")}}
	assert.Equal(t, "second\nfirst\n", redisx.Source(files, "b", "a"))
	assert.Panics(t, func() { redisx.Source(files, "a", "missing") })
}
