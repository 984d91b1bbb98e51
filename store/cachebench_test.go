package store_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/maypok86/otter/v2"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
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

func BenchmarkNearHit(b *testing.B) {
	server := redistest.Start(b)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	b.Cleanup(func() { _ = client.Close() })
	v := user{Name: "Ada Lovelace", Tags: []string{"a", "b", "c"}}
	for name, opts := range map[string][]store.Option{
		"shared": {store.WithShared()}, "decoded": nil,
		"cloned": {store.WithClone(func(u user) user { return user{u.Name, slices.Clone(u.Tags)} })},
	} {
		c := newCache[user](b, newStore(b, client), append(opts, near())...)
		if err := c.Set(b.Context(), "k", v); err != nil {
			b.Fatal(err)
		}
		fill(b, c, "k")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Get(b.Context(), "k"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	bare := otter.Must(&otter.Options[string, *user]{MaximumSize: 1000})
	bare.Set("k", &v)
	b.Run("otter", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := bare.GetIfPresent("k"); !ok {
				b.Fatal("miss")
			}
		}
	})
}
