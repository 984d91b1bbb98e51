package embedded_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
)

// wholeSeconds asks for the time to live in every way there is: alone, in a
// transaction, in a script, and as the time of expiry.
func wholeSeconds(t *testing.T, client *redis.Client, key string) []int64 {
	t.Helper()
	ctx := t.Context()
	alone, err := client.Do(ctx, "TTL", key).Int64()
	require.NoError(t, err)
	var queued *redis.Cmd
	_, err = client.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		queued = tx.Do(ctx, "TTL", key)
		return nil
	})
	require.NoError(t, err)
	inTx, err := queued.Int64()
	require.NoError(t, err)
	inScript, err := client.Eval(ctx, "return redis.call('TTL', KEYS[1])", []string{key}).Int64()
	require.NoError(t, err)
	at, err := client.Eval(ctx, "return redis.call('EXPIRETIME', KEYS[1])", []string{key}).Int64()
	require.NoError(t, err)
	inMilliseconds, err := client.Do(ctx, "PEXPIRETIME", key).Int64()
	require.NoError(t, err)
	if inMilliseconds >= 0 {
		assert.Equal(t, (inMilliseconds+500)/1000, at, "EXPIRETIME rounds like TTL")
	} else {
		assert.Equal(t, inMilliseconds, at)
	}
	return []int64{alone, inTx, inScript}
}

// In a bubble no time passes between two commands, so that the border can be met.
func TestTTLRoundsToTheNearestSecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, _ := setup(t)
		for ms, want := range map[int64]int64{
			1: 0, 499: 0, 500: 1, 999: 1, 1000: 1, 1499: 1, 1500: 2, 10_000: 10, 100_499: 100, 100_500: 101,
		} {
			require.NoError(t, client.Set(t.Context(), "k", "v", time.Duration(ms)*time.Millisecond).Err())
			assert.Equal(t, []int64{want, want, want}, wholeSeconds(t, client, "k"), ms)
		}
		require.NoError(t, client.Persist(t.Context(), "k").Err())
		assert.Equal(t, []int64{-1, -1, -1}, wholeSeconds(t, client, "k"))
		assert.Equal(t, []int64{-2, -2, -2}, wholeSeconds(t, client, "none"))

		// The database of the connection counts.
		other := client.Conn()
		defer func() { assert.NoError(t, other.Close()) }()
		require.NoError(t, other.Select(t.Context(), 1).Err())
		require.NoError(t, other.Set(t.Context(), "k", "v", time.Minute).Err())
		assert.Equal(t, time.Minute, other.TTL(t.Context(), "k").Val())
		assert.Equal(t, time.Duration(-1), client.TTL(t.Context(), "k").Val())
	})
}

// Every command that sets a time to live leaves what it leaves in Redis.
func TestTTLIsThatOfRedis(t *testing.T) {
	t.Parallel()
	embedded, _ := setup(t)
	genuine := redistest.Start(t).Client(t)
	for n, commands := range [][]string{
		{"SET %s v EX 10"}, {"SET %s v PX 1700"}, {"SET %s v PX 1300"}, {"SETEX %s 10 v"}, {"PSETEX %s 1700 v"},
		{"SET %s v", "EXPIRE %s 10"}, {"SET %s v", "PEXPIRE %s 2700"}, {"SET %s v EX 10", "EXPIRE %s 20 GT"},
		{"SET %s v EX 10", "EXPIRE %s 20 LT"}, {"SET %s v EX 10", "EXPIRE %s 20 NX"}, {"SET %s v", "EXPIRE %s 20 XX"},
		{"SET %s v EX 10", "SET %s w KEEPTTL"}, {"SET %s v EX 10", "SET %s w"}, {"SET %s v EX 10", "PERSIST %s"},
		{"SET %s v", "GETEX %s EX 7"}, {"SET %s v EX 10", "GETEX %s PERSIST"}, {"SET %s v", "EXPIRE %s 0"},
		{"SET %s v", "EXPIRE %s -5"}, {"HSET %s f v", "EXPIRE %s 10", "HSET %s f w"}, {"SET %s 1 EX 10", "INCR %s"},
		{"SET old v EX 10", "RENAME old %s"}, {"SET old v EX 10", "COPY old %s"}, {"SET %s v EX 10", "SET %s w GET"},
	} {
		key := fmt.Sprint("key", n)
		for _, client := range []*redis.Client{embedded, genuine} {
			for _, command := range commands {
				require.NoError(t, do(t, client, strings.ReplaceAll(command, "%s", key)), command)
			}
		}
		assert.Equal(t, wholeSeconds(t, genuine, key), wholeSeconds(t, embedded, key), "%v", commands)
	}
}
