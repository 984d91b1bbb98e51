package server

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// scanCount is how many keys a server looks at in one step of a scan.
const scanCount = 500

// errOther means that a scan cannot go on.
var errOther = errors.New("another server process answers than before, as it was restarted or a replica has taken over: " +
	"keys may be missing")

// Scan yields the keys that match a pattern, a page at a time, and ends after an error. Keys that exist from its begin to
// its end come at least once, unless a slot moves to another master meanwhile; others may come. A key comes once in a
// page, but may come again in another one. Each step takes no longer than step. See [Escape].
//
// A server's cursor means nothing to another process, which would leave out keys. So each step asks for the ID of the
// process as well (INFO server).
func (r *Redis) Scan(ctx context.Context, pattern string, step time.Duration) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		masters, err := r.masters(ctx, step)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, master := range masters {
			process := ""
			for cursor := uint64(0); ; {
				p, err := r.page(ctx, master, cursor, pattern, step)
				if err == nil && cursor != 0 && p.process != process {
					err = errOther
				}
				if err != nil {
					yield(nil, err) // not tried again: another process may answer then
					return
				}
				cursor, process = p.next, p.process
				if len(p.keys) > 0 && !yield(p.keys, nil) {
					return
				}
				if cursor == 0 {
					break
				}
			}
		}
	}
}

// page is one step of a scan.
type page struct {
	keys    []string
	next    uint64
	process string // ID of the process that has answered
}

// page takes one step of a scan.
func (r *Redis) page(
	ctx context.Context, master redis.UniversalClient, cursor uint64, pattern string, step time.Duration,
) (page, error) {
	ctx, cancel := context.WithTimeout(ctx, step)
	defer cancel()
	got := make(chan page, 1)
	err := r.await(ctx, func() error {
		info := redis.NewStringCmd(ctx, "info", "server")
		scan := redis.NewScanCmd(ctx, nil, "scan", cursor, "match", pattern, "count", scanCount)
		r.pipeline(ctx, master, []redis.Cmder{info, scan}) // on one connection, and so to one process
		keys, next := scan.Val()
		process, err := processOf(info)
		got <- page{keys, next, process}
		if scan.Err() != nil {
			return scan.Err()
		}
		return err
	})
	if err != nil {
		return page{}, err
	}
	p := <-got
	slices.Sort(p.keys)
	p.keys = slices.Compact(p.keys)
	return p, nil
}

// processOf returns the ID of a server's process. It is "" for a server that has no such thing, as one within this process,
// but not for one that refuses to say it.
func processOf(info *redis.StringCmd) (string, error) {
	text, err := info.Result()
	switch {
	case err == nil:
		_, after, _ := strings.Cut(text, "\nrun_id:")
		id, _, _ := strings.Cut(after, "\r")
		return id, nil
	case redis.IsPermissionError(err):
		return "", fmt.Errorf("the process must be known that answers, to find out whether keys are missing: %w", err)
	case redisx.IsReply(err):
		return "", nil
	default:
		return "", err
	}
}

// masters returns a client of each server that has keys.
func (r *Redis) masters(ctx context.Context, step time.Duration) ([]redis.UniversalClient, error) {
	if r.cluster == nil {
		return []redis.UniversalClient{r.client}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, step)
	defer cancel()
	got := make(chan []redis.UniversalClient, 1)
	err := r.await(ctx, func() error {
		masters, err := redisx.Masters(ctx, r.cluster)
		var clients []redis.UniversalClient
		for _, master := range masters {
			clients = append(clients, master)
		}
		got <- clients
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-got, nil
}

// Escape returns a pattern that matches a text, and nothing else.
func Escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}
