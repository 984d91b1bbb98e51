package main

import (
	"context"
	"encoding/json"
	"errors"

	gocache "github.com/go-redis/cache/v9"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// hitKey is the key that is read.
const hitKey = "hit"

// hitOperations are reads of what is in Redis, without a near cache.
func hitOperations() []operation {
	hit := costGoals{
		trips: atMost(1), link: atMost(1.15), serverCPU: noGoal(), clientCPU: noGoal(), loopback: atMost(1.15),
	}
	many := hit
	many.link, many.loopback = atMost(1.3), atMost(1.3)
	return []operation{
		{name: "remote hit, Cache.Get", contenders: cacheHitContenders, goals: hit},
		{name: "remote hit, State.Get", contenders: stateHitContenders, goals: hit},
		{name: "GetMany of 100, warm", contenders: manyContenders, goals: many},
	}
}

// cacheHitContenders read one value of a Cache.
func cacheHitContenders(ctx context.Context, s *scope, _ *redistest.Server, addr string) ([]contender, error) {
	cache := newCache(s, addr)
	if err := cache.Set(ctx, hitKey, newProfile(hitKey)); err != nil {
		return nil, err
	}
	peers, err := plainHits(ctx, s, addr)
	return append([]contender{{"ours", func(ctx context.Context, _ int) error {
		v, err := cache.Get(ctx, hitKey)
		return expect(v, hitKey, err)
	}}}, peers...), err
}

// stateHitContenders read one value of a State.
func stateHitContenders(ctx context.Context, s *scope, _ *redistest.Server, addr string) ([]contender, error) {
	state := newState(s, addr)
	if _, err := state.Put(ctx, hitKey, newProfile(hitKey)); err != nil {
		return nil, err
	}
	peers, err := plainHits(ctx, s, addr)
	return append([]contender{{"ours", func(ctx context.Context, _ int) error {
		item, err := state.Get(ctx, hitKey)
		return expect(item.Value, hitKey, err)
	}}}, peers...), err
}

// plainHits read by GET, with the same decoder as ours, with that which most would take, and by go-redis/cache.
func plainHits(ctx context.Context, s *scope, addr string) ([]contender, error) {
	plain := newPlainAt(s, addr)
	if err := plainSet(ctx, plain, hitKey, newProfile(hitKey)); err != nil {
		return nil, err
	}
	library := newGoCache(plain)
	get := func(decode func([]byte, any) error) func(context.Context, int) error {
		return func(ctx context.Context, _ int) error {
			v, err := plainGet(ctx, plain, hitKey, decode)
			return expect(v, hitKey, err)
		}
	}
	return []contender{
		{"GET + the same decode on go-redis", get(store.JSON{}.Unmarshal)},
		{"GET + json.Unmarshal on go-redis", get(json.Unmarshal)},
		{"go-redis/cache", func(ctx context.Context, _ int) error {
			var v profile
			err := library.Get(ctx, hitKey, &v)
			return expect(v, hitKey, err)
		}},
	}, nil
}

// newGoCache returns go-redis/cache without its local cache, and with JSON, as all others have.
func newGoCache(client *redis.Client) *gocache.Cache {
	return gocache.New(&gocache.Options{Redis: client, Marshal: json.Marshal, Unmarshal: json.Unmarshal})
}

// manyContenders read many values at once.
func manyContenders(ctx context.Context, s *scope, _ *redistest.Server, addr string) ([]contender, error) {
	cache, plain, keys := newCache(s, addr), newPlainAt(s, addr), storeKeys("warm")
	if _, err := cache.LoadMany(ctx, keys, loadProfiles); err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := plainSet(ctx, plain, key, newProfile(key)); err != nil {
			return nil, err
		}
	}
	mget := func(decode func([]byte, any) error) func(context.Context, int) error {
		return func(ctx context.Context, _ int) error {
			values, err := plainMany(ctx, plain, keys, decode)
			return expectAll(values, keys, err)
		}
	}
	return []contender{
		{"ours", func(ctx context.Context, _ int) error {
			values, err := cache.GetMany(ctx, keys)
			return expectAll(values, keys, err)
		}},
		{"MGET + the same decode on go-redis", mget(store.JSON{}.Unmarshal)},
		{"MGET + json.Unmarshal on go-redis", mget(json.Unmarshal)},
	}, nil
}

// plainMany reads by MGET. Keys without a value are missing in the map.
func plainMany(
	ctx context.Context, client *redis.Client, keys []string, decode func([]byte, any) error,
) (map[string]profile, error) {
	texts, err := client.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, err
	}
	values := make(map[string]profile, len(keys))
	for i, text := range texts {
		if text == nil {
			continue
		}
		raw, ok := text.(string)
		if !ok {
			return nil, errors.New("MGET returns something else than text")
		}
		var v profile
		if err := decode([]byte(raw), &v); err != nil {
			return nil, err
		}
		values[keys[i]] = v
	}
	return values, nil
}
