package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	gocache "github.com/go-redis/cache/v9"

	"github.com/compozy/cache/internal/redistest"
)

// missOperations are of keys that nobody has asked for.
func missOperations() []operation {
	miss := costGoals{trips: atMost(3), link: noGoal(), serverCPU: noGoal(), clientCPU: noGoal(), loopback: noGoal()}
	return []operation{
		{name: "miss + load", contenders: missContenders, goals: miss},
		{name: "LoadMany of 100, cold", contenders: coldContenders, goals: miss},
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

// missRuns is for how many misses commands are counted.
const missRuns = 50

// measureMisses counts what the server is sent for a miss, and how often loaders are called.
func measureMisses(ctx context.Context, s *scope, _ effort) (report, error) {
	server := redistest.Start(s)
	cache := newCache(s, server.Addr())
	key, prefix, calls := fresh("one"), fresh("many"), 0
	one := func() error {
		name := key()
		v, err := cache.GetOrLoad(ctx, name, func(context.Context) (profile, error) { return newProfile(name), nil })
		return expect(v, name, err)
	}
	many := func() error {
		keys := storeKeys(prefix())
		values, err := cache.LoadMany(ctx, keys, func(ctx context.Context, missing []string) (map[string]profile, error) {
			calls++ // by one goroutine, which ends before LoadMany returns
			return loadProfiles(ctx, missing)
		})
		return expectAll(values, keys, err)
	}
	perOne, oneNames, err := commandsOf(ctx, s, server, missRuns, one)
	if err != nil {
		return report{}, err
	}
	perMany, manyNames, err := commandsOf(ctx, s, server, missRuns, many)
	if err != nil {
		return report{}, err
	}
	return report{rows: []row{
		{
			what: "miss + load: commands", against: "–", goal: atMost(3), value: count(perOne), unit: "per op", detail: oneNames,
		},
		{
			what: "LoadMany of 100, cold: commands", against: "–", goal: noGoal(), value: count(perMany), unit: "per op",
			detail: manyNames,
		},
		{
			what: "LoadMany of 100, cold: calls of the loader", against: "–", goal: atMost(1),
			value: count(float64(calls) / (missRuns + 1)), unit: "per op",
		},
	}}, nil
}

// commandsOf returns what all clients send per operation, in all and by name, but for TIME. The first operation is not
// counted: it subscribes, and loads scripts.
func commandsOf(
	ctx context.Context, s *scope, server *redistest.Server, runs int, op func() error,
) (perOp float64, names string, err error) {
	if err := op(); err != nil {
		return 0, "", err
	}
	traffic, err := startMonitor(s, server)
	if err != nil {
		return 0, "", err
	}
	for range runs {
		if err := op(); err != nil {
			return 0, "", err
		}
	}
	commands, err := traffic.stop(ctx, newPlain(s, server))
	if err != nil {
		return 0, "", err
	}
	perOp, names = spell(commands, runs)
	return perOp, names, nil
}

// spell returns how many commands are one operation's, without TIME, in all and by name.
func spell(commands map[string]int, operations int) (perOp float64, names string) {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		if name == "time" {
			continue
		}
		share := float64(commands[name]) / float64(operations)
		perOp += share
		parts = append(parts, number(share)+" "+name)
	}
	return perOp, strings.Join(parts, ", ")
}
