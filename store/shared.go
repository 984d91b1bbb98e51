package store

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/internal/tasks"
	"github.com/compozy/cache/store/internal/breaker"
	"github.com/compozy/cache/store/internal/lease"
	"github.com/compozy/cache/store/internal/load"
	"github.com/compozy/cache/store/internal/near"
	"github.com/compozy/cache/store/internal/server"
)

// maxAlone is how many loaders run at a time without Redis, which keeps others from loading the same.
const maxAlone = 32

var errNoAnswer = errors.New("no answer in time")

// shared is what the Caches of a Store have in common. Its calls to Redis take no longer than WithTimeout, and fail at once
// while Redis does not answer.
type shared struct {
	server   *server.Redis
	timeout  time.Duration
	breakers *breaker.Breakers
	leases   *lease.Leases
	limit    *load.Limit
	repeats  *repeats
	// helpers are goroutines that serve calls: they go on until no call is under way.
	helpers *tasks.Tasks
	// loads ends when loaders have to.
	loads     context.Context //nolint:containedctx // nobody's call
	stopLoads context.CancelCauseFunc
}

func newShared(c *core) *shared {
	s := &shared{
		server: c.server, timeout: c.set.timeout, breakers: breaker.New(c.client, c.set.logger),
		limit: load.NewLimit(maxAlone), helpers: tasks.New(),
	}
	s.loads, s.stopLoads = context.WithCancelCause(context.Background())
	s.leases = lease.New(lease.Settings{
		Client: c.client, Runner: s, Timeout: s.timeout, Prefix: c.set.prefix, Channel: near.Channel(c.set.prefix),
		Closing: s.helpers.Closing(), Go: s.helpers.Go, Log: c.set.logger,
	})
	s.repeats = newRepeats(s, c.set.logger)
	c.metrics.cache.gauges.shared = s
	return s
}

// close ends what serves calls, and loaders that still run. It reports false if ctx ends before that has ended.
func (s *shared) close(ctx context.Context) bool {
	s.stopLoads(ErrClosed)
	s.helpers.Close()
	return s.helpers.Wait(ctx)
}

// ask calls f, which asks Redis for a key.
func (s *shared) ask(ctx context.Context, key string, f func(ctx context.Context) error) error {
	return s.breakers.Do(ctx, key, func() error {
		limited, cancel := context.WithTimeoutCause(ctx, s.timeout, errNoAnswer)
		defer cancel()
		return f(limited)
	})
}

// Run implements lease.Runner.
func (s *shared) Run(
	ctx context.Context, script *redisx.Script, keys []string, args func(again bool) []any,
) (reply any, lost bool, err error) {
	err = s.ask(ctx, keys[0], func(ctx context.Context) (err error) {
		reply, lost, err = s.server.Run(ctx, script, keys, args)
		return err
	})
	return reply, lost, err
}

// read reads a key.
func (s *shared) read(ctx context.Context, key string) (content server.Content) {
	err := s.ask(ctx, key, func(ctx context.Context) error {
		content = s.server.Read(ctx, key)
		return failureOf(content.Err)
	})
	if err != nil {
		content.Err = err
	}
	return content
}

// readMany reads keys, in one round trip to each server. few tells keys of another type, see [server.Redis.ReadFew].
func (s *shared) readMany(ctx context.Context, keys []string, few bool) []server.Content {
	contents := make([]server.Content, len(keys))
	read := func(indexes []int) {
		part := make([]string, len(indexes))
		for i, index := range indexes {
			part[i] = keys[index]
		}
		var read []server.Content
		err := s.ask(ctx, part[0], func(ctx context.Context) error {
			if few {
				read = s.server.ReadFew(ctx, part)
			} else {
				read = s.server.ReadMany(ctx, part)
			}
			for _, content := range read {
				if err := failureOf(content.Err); err != nil {
					return err
				}
			}
			return nil
		})
		for i, index := range indexes {
			if contents[index].Err = err; read != nil {
				contents[index] = read[i]
			}
		}
	}
	groups := s.breakers.Group(keys)
	if len(groups) == 1 {
		read(groups[0])
		return contents
	}
	var all sync.WaitGroup
	for _, indexes := range groups {
		all.Go(func() { read(indexes) })
	}
	all.Wait()
	return contents
}

// write calls f, which writes a key.
func (s *shared) write(ctx context.Context, key string, f func(ctx context.Context) server.Reply) (reply server.Reply) {
	err := s.ask(ctx, key, func(ctx context.Context) error {
		reply = f(ctx)
		return reply.Err
	})
	if errors.Is(err, breaker.ErrOpen) {
		return server.Reply{Outcome: server.Failed, Err: err}
	}
	return reply
}

// put writes a value.
func (s *shared) put(ctx context.Context, p server.Put) server.Reply {
	return s.write(ctx, p.Key, func(ctx context.Context) server.Reply { return s.server.Put(ctx, p) })
}

// epochs returns the epochs of tags, by their keys, which last for a time at least.
func (s *shared) epochs(ctx context.Context, keys []string, lasts time.Duration) ([]string, error) {
	epochs, errs := make([]string, len(keys)), make([]error, len(keys))
	var all sync.WaitGroup
	for i, key := range keys {
		all.Go(func() {
			var foreign error // which is no failure of Redis
			errs[i] = s.ask(ctx, key, func(ctx context.Context) (err error) {
				epochs[i], err = s.server.Epoch(ctx, key, lasts)
				if failureOf(err) == nil {
					foreign, err = err, nil
				}
				return err
			})
			errs[i] = cmp.Or(errs[i], foreign)
		})
	}
	all.Wait()
	return epochs, errors.Join(errs...)
}

// invalidate ends the epoch of a tag.
func (s *shared) invalidate(ctx context.Context, key string) server.Reply {
	return s.write(ctx, key, func(ctx context.Context) server.Reply { return s.server.Invalidate(ctx, key) })
}

// drop deletes a value and revokes the lease on it.
func (s *shared) drop(ctx context.Context, k lease.Keys) server.Reply {
	return s.write(ctx, k.Value, func(ctx context.Context) server.Reply {
		return s.server.Drop(ctx, k.Value, k.Lease, k.Codec)
	})
}
