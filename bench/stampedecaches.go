package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	gocache "github.com/go-redis/cache/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidisaside"
	"github.com/viccon/sturdyc"

	"github.com/compozy/cache/store"
)

// textLoader loads the value of a key.
type textLoader func(ctx context.Context) (string, error)

// stampeder gets a value, and loads it if there is none.
type stampeder func(ctx context.Context, key string, load textLoader) (string, error)

// ourStampeder is the name of ours.
const ourStampeder = "ours"

// stampeders make what runs in each process, by name.
func stampeders() map[string]func(s *scope, addr string) (stampeder, error) {
	return map[string]func(s *scope, addr string) (stampeder, error){
		ourStampeder:                newOurStampeder,
		"rueidisaside":              newRueidisStampeder,
		"go-redis/cache":            newGoCacheStampeder,
		"sturdyc, in-process alone": newSturdycStampeder,
	}
}

// peerStampeders returns the names of the peers.
func peerStampeders() []string {
	names := slices.Sorted(maps.Keys(stampeders()))
	return slices.DeleteFunc(names, func(name string) bool { return name == ourStampeder })
}

func newOurStampeder(s *scope, addr string) (stampeder, error) {
	cache, err := store.NewCache[string](newStore(s, addr), "stampede", store.WithTTL(storeTTL))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, key string, load textLoader) (string, error) {
		return cache.GetOrLoad(ctx, key, load)
	}, nil
}

// newRueidisStampeder: a key being loaded holds a marker in Redis, and the others learn of its value by client-side caching.
func newRueidisStampeder(s *scope, addr string) (stampeder, error) {
	client, err := rueidisaside.NewClient(rueidisaside.ClientOption{
		ClientOption: rueidis.ClientOption{InitAddress: []string{addr}},
	})
	if err != nil {
		return nil, fmt.Errorf("make rueidisaside: %w", err)
	}
	s.Cleanup(client.Close)
	return func(ctx context.Context, key string, load textLoader) (string, error) {
		return client.Get(ctx, storeTTL, key, func(ctx context.Context, _ string) (string, error) { return load(ctx) })
	}, nil
}

// newGoCacheStampeder loads once per process.
func newGoCacheStampeder(s *scope, addr string) (stampeder, error) {
	library := newGoCache(newPlainAt(s, addr))
	return func(ctx context.Context, key string, load textLoader) (v string, err error) {
		err = library.Once(&gocache.Item{
			Ctx: ctx, Key: key, Value: &v, TTL: storeTTL, Do: func(*gocache.Item) (any, error) { return load(ctx) },
		})
		return v, err
	}, nil
}

// newSturdycStampeder loads once per process, and has nothing in Redis.
func newSturdycStampeder(*scope, string) (stampeder, error) {
	const capacity, shards, evicted = 10_000, 10, 10
	client := sturdyc.New[string](capacity, shards, storeTTL, evicted)
	return func(ctx context.Context, key string, load textLoader) (string, error) {
		return client.GetOrFetch(ctx, key, sturdyc.FetchFn[string](load))
	}, nil
}
