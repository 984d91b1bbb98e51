package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redistest"
)

// missRuns is for how many misses commands are counted.
const missRuns = 50

// sends counts how often a client sends something and waits for the reply, be it a command or a pipeline.
type sends struct {
	redistest.Hook

	count atomic.Int64
}

func (c *sends) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.count.Add(1)
		return next(ctx, cmd)
	}
}

func (c *sends) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.count.Add(1)
		return next(ctx, cmds)
	}
}

// measureMisses counts what the server is sent for a miss, and how often loaders are called.
func measureMisses(ctx context.Context, s *scope, _ effort) (report, error) {
	server := redistest.Start(s)
	client, trips := newOurs(s, server), &sends{}
	client.AddHook(trips)
	cache := newCacheOn(s, client)
	key, prefix, calls := fresh("one"), fresh("many"), 0
	var waits []float64 // of each call of LoadMany
	one := func() error {
		name := key()
		v, err := cache.GetOrLoad(ctx, name, func(context.Context) (profile, error) { return newProfile(name), nil })
		return expect(v, name, err)
	}
	many := func() error {
		keys, before := storeKeys(prefix()), trips.count.Load()
		values, err := cache.LoadMany(ctx, keys, func(ctx context.Context, missing []string) (map[string]profile, error) {
			calls++ // by one goroutine, which ends before LoadMany returns
			return loadProfiles(ctx, missing)
		})
		waits = append(waits, float64(trips.count.Load()-before))
		return expectAll(values, keys, err)
	}
	if err := errors.Join(one(), many()); err != nil { // the first ones subscribe, and load scripts
		return report{}, err
	}
	perOne, oneNames, err := commandsOf(ctx, s, server, missRuns, one)
	if err != nil {
		return report{}, err
	}
	calls, waits = 0, nil
	perMany, manyNames, err := commandsOf(ctx, s, server, missRuns, many)
	if err != nil {
		return report{}, err
	}
	return report{rows: []row{
		{
			what: "miss + load: commands", against: "–", goal: atMost(3), value: count(perOne), unit: "per op", detail: oneNames,
		},
		{
			what: "LoadMany of 100, cold: round trips", against: "–", goal: atMost(3), value: spreadOf(waits), unit: "per op",
		},
		{
			what: "LoadMany of 100, cold: commands", against: "–", goal: noGoal(), value: count(perMany), unit: "per op",
			detail: manyNames,
		},
		{
			what: "LoadMany of 100, cold: calls of the loader", against: "–", goal: atMost(1),
			value: count(float64(calls) / missRuns), unit: "per op",
		},
	}}, nil
}

// commandsOf returns what all clients send per operation, in all and by name, but for TIME.
func commandsOf(
	ctx context.Context, s *scope, server *redistest.Server, runs int, op func() error,
) (perOp float64, names string, err error) {
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
