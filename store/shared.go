package store

import (
	"cmp"
	"context"
	"errors"
	"slices"
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

// shared is what the Caches of a Store have in common. Its calls to Redis end as WithTimeout says, and fail at once while Redis
// does not answer.
type shared struct {
	server   *server.Redis
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
		server: c.server, breakers: breaker.New(c.client, c.set.timeout, c.set.logger),
		limit: load.NewLimit(maxAlone), helpers: tasks.New(),
	}
	s.loads, s.stopLoads = context.WithCancelCause(context.Background())
	s.leases = lease.New(lease.Settings{
		Client: c.client, Runner: s, Timeout: c.set.timeout, Prefix: c.set.prefix, Channel: near.Channel(c.set.prefix),
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

// Ask calls f, which asks Redis for a key. It implements lease.Runner.
func (s *shared) Ask(ctx context.Context, key string, f func(ctx context.Context) error) error {
	return s.breakers.Do(ctx, key, f)
}

// Run implements lease.Runner.
func (s *shared) Run(
	ctx context.Context, script *redisx.Script, keys []string, args func(again bool) []any,
) (reply any, lost bool, err error) {
	err = s.Ask(ctx, keys[0], func(ctx context.Context) (err error) {
		reply, lost, err = s.server.Run(ctx, script, keys, args)
		return err
	})
	return reply, lost, err
}

// read reads the key of a value.
func (s *shared) read(ctx context.Context, key string, sizes *valueSizes) (content server.Content) {
	err := s.Ask(ctx, key, func(ctx context.Context) error {
		content = s.server.Read(ctx, key, sizes.one())
		return failureOf(content.Err)
	})
	if err != nil {
		content.Err = err
	}
	sizes.saw(len(content.Raw))
	return content
}

// readMany reads the keys of values, whose sizes are known, and those of tags. It takes one round trip to each server, or as many
// as it takes to read not too much at a time, and less after what did not arrive in time. few tells keys of another type, see [server.Redis.ReadFew].
func (s *shared) readMany(ctx context.Context, values, tags []string, few bool, sizes *valueSizes) []server.Content {
	keys := slices.Concat(values, tags)
	contents, groups := make([]server.Content, len(keys)), s.breakers.Group(keys)
	errs := parallel(len(groups), func(g int) error {
		most := partKeys
		for rest := groups[g]; len(rest) > 0; {
			n := min(sizes.part(), most, len(rest))
			some := n // are values
			for some > 0 && rest[some-1] >= len(values) {
				some--
			}
			for n < len(rest) && rest[n] >= len(values) { // tags are small
				n++
			}
			err := s.readPart(ctx, keys, rest[:n], few, sizes, contents)
			switch {
			case err == nil:
				seen := make([]int, some)
				for i, index := range rest[:some] {
					seen[i] = len(contents[index].Raw)
				}
				sizes.sawTogether(seen)
				rest = rest[n:]
			case some > 1 && most == partKeys && ctx.Err() == nil && errors.Is(err, breaker.ErrNoAnswer): // as it is so much, maybe
				most = sizes.tooMany(some)
			default: // the server is asked no more
				for _, i := range rest[n:] {
					contents[i].Err = err
				}
				return nil
			}
		}
		return nil
	})
	for g, err := range errs {
		if err != nil {
			for _, i := range groups[g] {
				contents[i] = server.Content{Err: err}
			}
		}
	}
	return contents
}

// readPart reads some of the keys, of one server. The error says that it does not answer.
func (s *shared) readPart(
	ctx context.Context, keys []string, which []int, few bool, sizes *valueSizes, contents []server.Content,
) error {
	part := make([]string, len(which))
	for i, index := range which {
		part[i] = keys[index]
	}
	var read []server.Content
	err := s.Ask(ctx, part[0], func(ctx context.Context) error {
		if few {
			read = s.server.ReadFew(ctx, part, sizes.expected())
		} else {
			read = s.server.ReadMany(ctx, part, sizes.expected())
		}
		for _, content := range read {
			if err := failureOf(content.Err); err != nil {
				return err
			}
		}
		return nil
	})
	for i, index := range which {
		if contents[index].Err = err; read != nil {
			contents[index] = read[i]
		}
	}
	return err
}

// write calls f, which writes a key.
func (s *shared) write(ctx context.Context, key string, f func(ctx context.Context) server.Reply) (reply server.Reply) {
	err := s.Ask(ctx, key, func(ctx context.Context) error {
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
	epochs := make([]string, len(keys))
	errs := parallel(len(keys), func(i int) error {
		var foreign error // which is no failure of Redis
		err := s.Ask(ctx, keys[i], func(ctx context.Context) (err error) {
			epochs[i], err = s.server.Epoch(ctx, keys[i], lasts)
			if failureOf(err) == nil {
				foreign, err = err, nil
			}
			return err
		})
		return cmp.Or(err, foreign)
	})
	return epochs, errors.Join(errs...)
}

// invalidate ends the epoch of a tag.
func (s *shared) invalidate(ctx context.Context, key string) server.Reply {
	return s.write(ctx, key, func(ctx context.Context) server.Reply { return s.server.Invalidate(ctx, key) })
}

// drop deletes a value and revokes the lease on it. Nobody gets another one for the time of holdOff.
func (s *shared) drop(ctx context.Context, k lease.Keys, holdOff time.Duration) server.Reply {
	return s.write(ctx, k.Value, func(ctx context.Context) server.Reply {
		return s.server.Drop(ctx, server.Drop{
			Key: k.Value, Lease: k.Lease, Codec: k.Codec, HoldOff: holdOff,
			Why: lease.Failure{Class: lease.Unstorable, Message: "held off"}.String(),
		})
	})
}
