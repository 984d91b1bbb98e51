package main

import (
	"context"
	"slices"
	"strings"

	"github.com/compozy/cache"
)

// HeldLock is a lock as the page shows it.
type HeldLock struct {
	Resource string  `json:"resource"`
	Owner    string  `json:"owner"`
	Token    int64   `json:"token"`
	TTL      float64 `json:"ttl"`  // seconds that remain
	Full     float64 `json:"full"` // seconds after a renewal
	Waiting  int     `json:"waiting"`
}

// inspector is what the lock manager of the module can tell about locks, whoever holds them.
type inspector interface {
	Inspect(ctx context.Context, resource string) (cache.LockInfo, error)
}

// heldLocks asks Redis about the given locks, and returns those that somebody holds or waits for.
func heldLocks(ctx context.Context, locks inspector, resources []string) ([]HeldLock, error) {
	held := []HeldLock{}
	for _, resource := range resources {
		info, err := locks.Inspect(ctx, resource)
		if err != nil {
			return held, err
		}
		if info.Held || info.Waiting > 0 {
			held = append(held, HeldLock{
				Resource: resource, Owner: info.Owner, Token: info.Token, TTL: info.TTL.Seconds(), Full: lockTTL.Seconds(),
				Waiting: info.Waiting,
			})
		}
	}
	slices.SortFunc(held, func(a, b HeldLock) int { return strings.Compare(a.Resource, b.Resource) })
	return held, nil
}
