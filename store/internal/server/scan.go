package server

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// scanCount is how many keys a server looks at in one step of a scan.
const scanCount = 500

// Scan yields the keys that match a pattern, a page at a time, and ends after an error. Keys that exist from its begin to
// its end come at least once, unless a slot moves to another master meanwhile; others may come. A key comes once in a
// page, but may come again in another one. See [Escape].
func (r *Redis) Scan(ctx context.Context, pattern string) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		masters, err := r.masters(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, master := range masters {
			for cursor := uint64(0); ; {
				var page []string
				page, cursor, err = r.page(ctx, master, cursor, pattern)
				if err != nil {
					// Not tried again: another server may answer then, to which the cursor means something else.
					yield(nil, err)
					return
				}
				if len(page) > 0 && !yield(page, nil) {
					return
				}
				if cursor == 0 {
					break
				}
			}
		}
	}
}

// page takes one step of a scan.
func (r *Redis) page(
	ctx context.Context, master redis.UniversalClient, cursor uint64, pattern string,
) (keys []string, next uint64, err error) {
	type result struct {
		keys []string
		next uint64
	}
	got := make(chan result, 1)
	err = r.await(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, r.timeout)
		defer cancel()
		cmd := redis.NewScanCmd(ctx, nil, "scan", cursor, "match", pattern, "count", scanCount)
		err := master.Process(ctx, redisx.Once(cmd))
		keys, next := cmd.Val()
		got <- result{keys, next}
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	page := <-got
	slices.Sort(page.keys)
	return slices.Compact(page.keys), page.next, nil
}

// masters returns a client of each server that has keys.
func (r *Redis) masters(ctx context.Context) ([]redis.UniversalClient, error) {
	if r.cluster == nil {
		return []redis.UniversalClient{r.client}, nil
	}
	var mu sync.Mutex
	var masters []redis.UniversalClient
	err := r.await(ctx, func() error {
		return r.cluster.ForEachMaster(ctx, func(_ context.Context, master *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			masters = append(masters, master)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return masters, nil
}

// Escape returns a pattern that matches a text, and nothing else.
func Escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}
