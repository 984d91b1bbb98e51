package server

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/batch"
)

// partBytes is what the values that are read in one step add up to, unless one is larger.
const partBytes = 4 << 20

// ReadEach yields what keys contain, in the order of the keys and some at a time, so that there is memory for them however
// large the values are. It tells keys of another type than a string. Each step takes no longer than step. It does not hold
// up other readers.
func (r *Redis) ReadEach(ctx context.Context, keys []string, step time.Duration) iter.Seq[[]Content] {
	return func(yield func([]Content) bool) {
		sizes := r.sizes(ctx, keys, step)
		for len(keys) > 0 {
			n, total := 1, sizes[0]
			for n < min(len(keys), manyKeys) && total+sizes[n] <= partBytes {
				total += sizes[n]
				n++
			}
			if !yield(r.readPart(ctx, keys[:n], step)) {
				return
			}
			keys, sizes = keys[n:], sizes[n:]
		}
	}
}

// sizes returns how long the values of keys are: partBytes where that is not known.
func (r *Redis) sizes(ctx context.Context, keys []string, step time.Duration) []int64 {
	ctx, cancel := context.WithTimeout(ctx, step)
	defer cancel()
	sizes, cmds := slices.Repeat([]int64{partBytes}, len(keys)), make([]*redis.IntCmd, len(keys))
	list := make([]batch.Keyed, len(keys))
	for i, key := range keys {
		cmds[i] = redis.NewIntCmd(ctx, "strlen", key)
		list[i] = batch.Keyed{Key: key, Cmd: cmds[i]}
	}
	batch.Pipeline(ctx, r.client, r.spawn, list, func(indexes []int) {
		for _, i := range indexes {
			if cmds[i].Err() == nil {
				sizes[i] = cmds[i].Val()
			}
		}
	})
	return sizes
}

// readPart reads keys together, and again after a failure that may pass.
func (r *Redis) readPart(ctx context.Context, keys []string, step time.Duration) []Content {
	ctx, cancel := context.WithTimeout(ctx, step)
	defer cancel()
	if r.cluster != nil {
		return r.readCluster(ctx, keys)
	}
	for try := 1; ; try++ {
		one := &read{keys: keys}
		err := r.await(ctx, func() error {
			r.sendReads(ctx, []*read{one})
			return one.err
		})
		if err == nil {
			return one.contents
		}
		if !r.pause(ctx, try, err) {
			return slices.Repeat([]Content{{Err: err}}, len(keys))
		}
	}
}
