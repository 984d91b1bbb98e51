package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

// peerPut is the least a script that compares and sets can do.
//
//go:embed peers/put.lua
var peerPut string

// writeKey is the key that is written.
const writeKey = "written"

var errChanged = errors.New("somebody else has written")

// writeOperation is a write that depends on what was there. Nobody else writes.
func writeOperation() operation {
	return operation{name: "Put with IfVersion", contenders: writeContenders, goals: costGoals{
		trips: atMost(1), link: atMost(0.5), serverCPU: noGoal(), clientCPU: noGoal(), loopback: atMost(0.5),
	}}
}

// writeContenders know the version that is there, and write the next.
func writeContenders(ctx context.Context, s *scope, _ *redistest.Server, addr string) ([]contender, error) {
	state, plain, v := newState(s, addr), newPlainAt(s, addr), newProfile(writeKey)
	version, err := state.Put(ctx, writeKey, v)
	if err != nil {
		return nil, err
	}
	script := redis.NewScript(peerPut)
	if err := script.Load(ctx, plain).Err(); err != nil {
		return nil, fmt.Errorf("load script: %w", err)
	}
	watched, scripted := int64(0), int64(0)
	return []contender{
		{"ours", func(ctx context.Context, _ int) (err error) {
			version, err = state.Put(ctx, writeKey, v, store.IfVersion(version))
			return err
		}},
		{"WATCH, GET, MULTI on go-redis", func(ctx context.Context, _ int) error {
			err := watchedPut(ctx, plain, "watched", watched, v)
			watched++
			return err
		}},
		{"EVALSHA of HGET + HSET", func(ctx context.Context, _ int) error {
			raw, err := json.Marshal(v)
			if err != nil {
				return err
			}
			done, err := script.EvalSha(ctx, plain, []string{"scripted"}, scripted, scripted+1, raw).Bool()
			if err == nil && !done {
				err = errChanged
			}
			scripted++
			return err
		}},
	}, nil
}

// versioned is a value beside its version.
type versioned struct {
	Version int64   `json:"version"`
	Value   profile `json:"value"`
}

// watchedPut writes the next version of a value, by an optimistic transaction.
func watchedPut(ctx context.Context, client *redis.Client, key string, version int64, v profile) error {
	return client.Watch(ctx, func(tx *redis.Tx) error {
		var now versioned
		raw, err := tx.Get(ctx, key).Bytes()
		if err == nil {
			err = json.Unmarshal(raw, &now)
		}
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		if now.Version != version {
			return errChanged
		}
		if raw, err = json.Marshal(versioned{version + 1, v}); err != nil {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, key, raw, 0).Err() })
		return err
	}, key)
}
