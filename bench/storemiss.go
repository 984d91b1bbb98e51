package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"

	gocache "github.com/go-redis/cache/v9"

	"github.com/compozy/cache/internal/redistest"
)

// missOperations are of keys that nobody has asked for.
func missOperations() []operation {
	miss := costGoals{trips: atMost(3), link: noGoal(), serverCPU: noGoal(), clientCPU: noGoal(), loopback: noGoal()}
	cold := miss
	// A pipeline that is larger than the client's buffer goes out in pieces: measureMisses counts what is waited for.
	cold.trips = noGoal()
	return []operation{
		{name: "miss + load", contenders: missContenders, goals: miss},
		{name: "LoadMany of 100, cold", contenders: coldContenders, goals: cold},
	}
}

// fresh returns a function that returns a name that it has not returned before.
func fresh(prefix string) func() string {
	var count atomic.Int64
	return func() string { return fmt.Sprintf("%s:%d", prefix, count.Add(1)) }
}

// missContenders load a value that is not there by a loader that takes no time. The peer takes no precaution but to load
// once per process.
func missContenders(_ context.Context, s *scope, _ *redistest.Server, addr string) ([]contender, error) {
	cache, library := newCache(s, addr), newGoCache(newPlainAt(s, addr))
	ours, theirs := fresh("ours"), fresh("theirs")
	return []contender{
		{"ours", func(ctx context.Context, _ int) error {
			key := ours()
			v, err := cache.GetOrLoad(ctx, key, func(context.Context) (profile, error) { return newProfile(key), nil })
			return expect(v, key, err)
		}},
		{"go-redis/cache, GET + SET", func(ctx context.Context, _ int) error {
			var v profile
			key := theirs()
			err := library.Once(&gocache.Item{
				Ctx: ctx, Key: key, Value: &v, TTL: storeTTL, Do: func(*gocache.Item) (any, error) { return newProfile(key), nil },
			})
			return expect(v, key, err)
		}},
	}, nil
}

// coldContenders load many values of which none is there.
func coldContenders(_ context.Context, s *scope, _ *redistest.Server, addr string) ([]contender, error) {
	cache, plain := newCache(s, addr), newPlainAt(s, addr)
	ours, theirs := fresh("ours"), fresh("theirs")
	return []contender{
		{"ours", func(ctx context.Context, _ int) error {
			keys := storeKeys(ours())
			values, err := cache.LoadMany(ctx, keys, loadProfiles)
			return expectAll(values, keys, err)
		}},
		{"MGET + load + pipeline of SET", func(ctx context.Context, _ int) error {
			keys := storeKeys(theirs())
			found, err := plainMany(ctx, plain, keys, json.Unmarshal)
			if err := expectAll(found, nil, err); err != nil {
				return err
			}
			loaded, err := loadProfiles(ctx, keys)
			if err != nil {
				return err
			}
			pipe := plain.Pipeline()
			for key, v := range loaded {
				if err := plainSet(ctx, pipe, key, v); err != nil {
					return err
				}
			}
			_, err = pipe.Exec(ctx)
			return expectAll(loaded, keys, err)
		}},
	}, nil
}
