package store_test

import (
	"encoding/json"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redistest"
)

func BenchmarkRemoteHit(b *testing.B) {
	server := redistest.Start(b)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	b.Cleanup(func() { _ = client.Close() })
	c := newCache[user](b, newStore(b, client))
	v := user{Name: "Ada Lovelace", Tags: []string{"a", "b", "c"}}
	if err := c.Set(b.Context(), "k", v); err != nil {
		b.Fatal(err)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		b.Fatal(err)
	}
	client.Set(b.Context(), "raw", raw, 0)
	b.Run("go-redis GET and decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			data, err := client.Get(b.Context(), "raw").Bytes()
			var u user
			if err != nil || json.Unmarshal(data, &u) != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Cache.Get", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Get(b.Context(), "k"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Cache.GetOrLoad", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.GetOrLoad(b.Context(), "k", never[user]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
