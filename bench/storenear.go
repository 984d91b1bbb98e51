package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/Yiling-J/theine-go"
	"github.com/maypok86/otter/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/compozy/cache/internal/faultproxy"
	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/store"
)

const (
	nearEntries = 10_000
	nearWarmUp  = 10 * time.Second
)

// measureNear reads one value again and again that is in the process. What the near cache asks Redis meanwhile belongs to
// it, and is counted.
func measureNear(ctx context.Context, s *scope, e effort) (report, error) {
	server := redistest.Start(s)
	proxy := faultproxy.New(s, server.Addr())
	contenders, err := nearContenders(ctx, s, server, proxy.Addr())
	if err != nil {
		return report{}, err
	}
	result, err := e.runMetered(ctx, 1, meters{requests: proxy.Requests}, contenders...)
	if err != nil {
		return report{}, err
	}
	allocated := make([]float64, len(contenders))
	for i, c := range contenders {
		allocated[i] = allocations(ctx, c.op)
	}
	return compareNear(result, allocated), nil
}

// nearContenders are ours and those that have goals, and then others. Only ours connects to addr.
func nearContenders(ctx context.Context, s *scope, server *redistest.Server, addr string) ([]contender, error) {
	cache := newCache(s, addr, store.WithNear(nearEntries, time.Second), store.WithShared())
	v := newProfile(hitKey)
	if err := cache.Set(ctx, hitKey, v); err != nil {
		return nil, err
	}
	if err := untilNear(ctx, cache); err != nil {
		return nil, err
	}
	if err := plainSet(ctx, newPlain(s, server), hitKey, v); err != nil {
		return nil, err
	}
	bare, err := otter.New(&otter.Options[string, *profile]{MaximumSize: nearEntries})
	if err != nil {
		return nil, err
	}
	bare.Set(hitKey, &v)
	other, err := theine.NewBuilder[string, *profile](nearEntries).Build()
	if err != nil {
		return nil, err
	}
	s.Cleanup(other.Close)
	other.Set(hitKey, &v, 1)
	other.Wait()
	assisted, decoding, err := rueidisHits(s, server)
	if err != nil {
		return nil, err
	}
	return []contender{
		{"ours", func(ctx context.Context, _ int) error {
			got, err := cache.Get(ctx, hitKey)
			return expect(got, hitKey, err)
		}},
		{"otter", func(context.Context, int) error {
			got, ok := bare.GetIfPresent(hitKey)
			return present(got, ok)
		}},
		assisted,
		decoding,
		{"theine", func(context.Context, int) error {
			got, ok := other.Get(hitKey)
			return present(got, ok)
		}},
		goRedisHit(s, server),
	}, nil
}

func present(v *profile, ok bool) error {
	if !ok {
		return errors.New("is not there")
	}
	return expect(*v, hitKey, nil)
}

// untilNear returns when the value comes from the process.
func untilNear(ctx context.Context, cache *store.Cache[profile]) error {
	ctx, cancel := context.WithTimeout(ctx, nearWarmUp)
	defer cancel()
	for {
		item, err := cache.GetItem(ctx, hitKey)
		if err != nil || item.Source == store.SourceNear {
			return err
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("the near cache stays empty: %w", err)
		}
	}
}

// rueidisHits are the client-side cache of rueidis: the text alone, which is the least, and what a caller has of it.
func rueidisHits(s *scope, server *redistest.Server) (text, decoded contender, err error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr()}})
	if err != nil {
		return text, decoded, fmt.Errorf("make rueidis client: %w", err)
	}
	s.Cleanup(client.Close)
	get := func(ctx context.Context) rueidis.RedisResult {
		return client.DoCache(ctx, client.B().Get().Key(hitKey).Cache(), storeTTL)
	}
	text = contender{"rueidis client-side cache, not decoded", func(ctx context.Context, _ int) error {
		_, err := get(ctx).ToString()
		return err
	}}
	decoded = contender{"rueidis client-side cache, decoded", func(ctx context.Context, _ int) error {
		var v profile
		err := get(ctx).DecodeJSON(&v)
		return expect(v, hitKey, err)
	}}
	return text, decoded, nil
}

// goRedisHit is the client-side cache of go-redis.
func goRedisHit(s *scope, server *redistest.Server) contender {
	client := redis.NewClient(&redis.Options{
		Addr: server.Addr(), Protocol: 3, ClientSideCacheConfig: &redis.ClientSideCacheConfig{},
	})
	s.Cleanup(func() { _ = client.Close() })
	return contender{"go-redis client-side cache, decoded", func(ctx context.Context, _ int) error {
		v, err := plainGet(ctx, client, hitKey, json.Unmarshal)
		return expect(v, hitKey, err)
	}}
}

// compareNear makes rows of a race of near hits.
func compareNear(r *race, allocated []float64) report {
	const what = "near hit, shared value"
	goals := []goal{noGoal(), atMost(2), atMost(0.5)}
	var rows []row
	for peer := 1; peer < len(r.names); peer++ {
		bound := noGoal()
		if peer < len(goals) {
			bound = goals[peer]
		}
		rows = append(rows, row{
			what: what + ": time", against: r.names[peer], goal: bound, value: r.times(peer), unit: "×", detail: r.both(peer),
		})
	}
	rows = append(rows, row{
		what: what + ": allocations", against: r.names[1], goal: atMost(0), value: count(allocated[0]), unit: "per op",
		detail: fmt.Sprintf("%s; %s", number(allocated[0]), number(allocated[1])),
	})
	line := cost{
		operation: what, peer: r.names[1],
		trips: fmt.Sprintf("%s; 0", number(median(r.requests[0]))), link: "–", serverCPU: "–",
		clientCPU:   withRatio(r.busy),
		allocations: fmt.Sprintf("%s; %s", number(allocated[0]), number(allocated[1])),
		loopback:    withRatio(r.nanos),
	}
	return report{rows: rows, costs: []cost{line}}
}
