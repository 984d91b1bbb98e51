package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/store"
)

const (
	storeTTL = 10 * time.Minute
	// storeBatch is how many keys the operations about several keys have.
	storeBatch = 100
	// storeClose is how long a Store may take to close.
	storeClose = 10 * time.Second
)

// storeOperations are what most programs do most with a Store.
func storeOperations() []operation {
	return slices.Concat(hitOperations(), missOperations(), []operation{writeOperation()})
}

// profile is what is stored: some 200 bytes of JSON.
type profile struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Email   string   `json:"email"`
	Roles   []string `json:"roles"`
	Logins  int64    `json:"logins"`
	Changed string   `json:"changed"`
	Note    string   `json:"note"`
}

func newProfile(id string) profile {
	return profile{
		ID: id, Name: "Ada Lovelace", Email: "ada.lovelace@example.com", Roles: []string{"admin", "editor", "viewer"},
		Logins: 1815, Changed: "2025-12-10T12:00:00Z", Note: "wrote the first program for a machine that was never built",
	}
}

// newStore returns a Store on a client of its own, as an application has it.
func newStore(s *scope, addr string) *store.Store {
	return newStoreOn(s, newOursAt(s, addr))
}

func newStoreOn(s *scope, client redis.UniversalClient) *store.Store {
	made, err := store.New(client)
	if err != nil {
		s.Fatalf("make store: %v", err)
	}
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), storeClose)
		defer cancel()
		_ = made.Close(ctx)
	})
	return made
}

func newCache(s *scope, addr string, opts ...store.Option) *store.Cache[profile] {
	return newCacheOn(s, newOursAt(s, addr), opts...)
}

func newCacheOn(s *scope, client redis.UniversalClient, opts ...store.Option) *store.Cache[profile] {
	opts = append([]store.Option{store.WithTTL(storeTTL)}, opts...)
	cache, err := store.NewCache[profile](newStoreOn(s, client), "bench", opts...)
	if err != nil {
		s.Fatalf("make cache: %v", err)
	}
	return cache
}

func newState(s *scope, addr string) *store.State[profile] {
	state, err := store.NewState[profile](newStore(s, addr), "bench-state")
	if err != nil {
		s.Fatalf("make state: %v", err)
	}
	return state
}

// storeKeys returns as many names as the operations about several keys have.
func storeKeys(prefix string) []string {
	keys := make([]string, storeBatch)
	for i := range keys {
		keys[i] = prefix + ":" + strconv.Itoa(i)
	}
	return keys
}

// loadProfiles is a loader of many that costs nothing but what it returns.
func loadProfiles(_ context.Context, keys []string) (map[string]profile, error) {
	values := make(map[string]profile, len(keys))
	for _, key := range keys {
		values[key] = newProfile(key)
	}
	return values, nil
}

// plainSet stores a value as those do who have no library.
func plainSet(ctx context.Context, client redis.Cmdable, key string, v profile) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return client.Set(ctx, key, raw, storeTTL).Err()
}

// plainGet reads a value and decodes it by what is given.
func plainGet(ctx context.Context, client redis.Cmdable, key string, decode func([]byte, any) error) (v profile, err error) {
	raw, err := client.Get(ctx, key).Bytes()
	if err != nil {
		return v, err
	}
	return v, decode(raw, &v)
}

// expect makes an error of a value that is not the one of a key.
func expect(v profile, key string, err error) error {
	if err == nil && v.ID != key {
		err = fmt.Errorf("%q has the value of %q", key, v.ID)
	}
	return err
}

// expectAll makes an error of values that are not those of some keys.
func expectAll(values map[string]profile, keys []string, err error) error {
	if err == nil && len(values) != len(keys) {
		err = fmt.Errorf("%d values for %d keys", len(values), len(keys))
	}
	return err
}
