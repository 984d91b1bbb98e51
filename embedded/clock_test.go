package embedded_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// times asks for the server's time in every way there is: alone, in a transaction and in a script.
func times(t *testing.T, client *redis.Client) []time.Time {
	t.Helper()
	ctx := t.Context()
	var queued *redis.TimeCmd
	_, err := client.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		queued = tx.Time(ctx)
		return nil
	})
	require.NoError(t, err)
	inScript, err := client.Eval(ctx, "local t = redis.call('TIME') return t[1] * 1000000 + t[2]", nil).Int64()
	require.NoError(t, err)
	return []time.Time{client.Time(ctx).Val(), queued.Val(), time.UnixMicro(inScript)}
}

func TestFastForwardMovesTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, server := setup(t)
		for _, now := range times(t, client) {
			assert.Equal(t, time.Now().UnixMicro(), now.UnixMicro())
		}
		require.NoError(t, client.Set(t.Context(), "k", "v", 3*time.Hour).Err())
		server.FastForward(time.Hour)
		server.FastForward(time.Hour)
		time.Sleep(time.Minute) // in a bubble: its clock
		for _, now := range times(t, client) {
			assert.Equal(t, time.Now().Add(2*time.Hour).UnixMicro(), now.UnixMicro())
		}
		assert.Equal(t, 59*time.Minute, client.PTTL(t.Context(), "k").Val(), "keys agree")
	})
}
