package near_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/stretchr/testify/require"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store/internal/near"
)

const benchKeys = 1000

// BenchmarkHit compares a hit with one of otter alone, and with one that also reads the clock, which any bound needs.
func BenchmarkHit(b *testing.B) {
	keys := make([]string, benchKeys)
	for i := range keys {
		keys[i] = prefix + "{" + strconv.Itoa(i) + "}"
	}
	b.Run("near", func(b *testing.B) {
		c := filled(b, keys)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, ok := c.Get(keys[i%benchKeys]); !ok {
				b.Fatal("miss")
			}
		}
	})
	bare := otter.Must(&otter.Options[string, *int]{MaximumSize: near.DefaultEntries})
	for _, key := range keys {
		bare.Set(key, new(int))
	}
	b.Run("otter", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, ok := bare.GetIfPresent(keys[i%benchKeys]); !ok {
				b.Fatal("miss")
			}
		}
	})
	b.Run("otter and clock", func(b *testing.B) {
		b.ReportAllocs()
		base, past := time.Now(), time.Duration(0)
		for i := 0; b.Loop(); i++ {
			if _, ok := bare.GetIfPresent(keys[i%benchKeys]); !ok || time.Since(base) < past {
				b.Fatal("miss")
			}
		}
	})
}

// filled returns a cache with a value for each key.
func filled(tb testing.TB, keys []string) *near.Cache {
	tb.Helper()
	server := redistest.Start(tb)
	tracker, err := near.New(near.Settings{Client: newClient(tb, server.Addr()), Channel: "near"})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, tracker.Close(context.Background())) })
	c, err := tracker.NewCache(near.CacheSettings{Prefix: prefix, MaxStaleness: time.Minute})
	require.NoError(tb, err)
	tracker.Start()
	require.Eventually(tb, func() bool { return tracker.Status().Age >= 0 }, patience, tick)
	for _, key := range keys {
		require.True(tb, c.Put(c.Begin(key), key, new(int), 8, forever))
	}
	return c
}
