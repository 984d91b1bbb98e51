package lock

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// pipelineSize is how many calls are sent together at most: enough to hide the round trips, few enough not to keep
// other clients of the server waiting.
const pipelineSize = 500

// pipeline makes calls of one script and gives the results to done as they arrive, some at a time, maybe several times at
// once; first is the index of the first call that they are of. It returns when ctx ends, even if the client does not heed
// contexts; the calls under way count as failed then.
func (n *node) pipeline(ctx context.Context, calls []call, done func(first int, results []result)) {
	if n.cluster == nil {
		n.inParts(ctx, calls, done)
		return
	}
	// go-redis returns when all masters have answered. One that hangs must not cost the locks on the others.
	var all sync.WaitGroup
	for _, places := range n.byMaster(ctx, calls) {
		mine := make([]call, len(places))
		for i, place := range places {
			mine[i] = calls[place]
		}
		all.Go(func() {
			n.inParts(ctx, mine, func(first int, results []result) {
				for i := range results {
					done(places[first+i], results[i:i+1])
				}
			})
		})
	}
	all.Wait()
}

// byMaster returns the indexes of calls, grouped by the master of the cluster that each is for.
func (n *node) byMaster(ctx context.Context, calls []call) map[string][]int {
	groups := make(map[string][]int)
	for i, c := range calls {
		key, _ := c.args[beforeKeys].(string)
		addr := "" // unknown, as the cluster cannot be reached, say: the pipeline will tell
		if master, err := n.cluster.MasterForKey(ctx, key); err == nil {
			addr = master.Options().Addr
		}
		groups[addr] = append(groups[addr], i)
	}
	return groups
}

// inParts makes calls in one round trip for each 500.
func (n *node) inParts(ctx context.Context, calls []call, done func(first int, results []result)) {
	first := 0
	for part := range slices.Chunk(calls, pipelineSize) {
		finished := make(chan []result, 1)
		go func() { finished <- n.exec(ctx, part) }()
		select {
		case results := <-finished:
			done(first, results)
		case <-ctx.Done():
			select {
			case results := <-finished: // at the same time
				done(first, results)
			default:
				done(first, unanswered(len(part)))
			}
		}
		first += len(part)
	}
}

func unanswered(count int) []result {
	return slices.Repeat([]result{{err: errNoAnswer}}, count)
}

// exec sends one part, and once more what met a server that does not know the script, or was refused together with
// others.
func (n *node) exec(ctx context.Context, calls []call) []result {
	results := make([]result, len(calls))
	n.execute(ctx, calls, false, repeatable, func(place int, r result) { results[place] = r })
	var again []call
	var places []int
	unknown, blamed := false, false
	for i, r := range results {
		switch {
		case redis.HasErrorPrefix(r.err, "NOSCRIPT"):
			unknown = true
		case r.refusedTogether():
			blamed = true
		default:
			continue
		}
		again, places = append(again, calls[i]), append(places, i)
	}
	switch {
	case !unknown:
	case n.cluster != nil: // where loading takes all masters
		for i := range again {
			again[i].whole = true
		}
	case n.client.ScriptLoad(ctx, calls[0].script.source).Err() != nil:
		return results
	}
	if len(again) > 0 {
		n.execute(ctx, again, blamed, repeatable, func(place int, r result) { results[places[place]] = r })
	}
	return results
}

// repeatable lets go-redis repeat a command as it likes.
func repeatable(cmd *redis.Cmd) redis.Cmder { return cmd }

// refusedTogether reports whether the server has refused several calls as a whole.
func (r result) refusedTogether() bool {
	if !r.together {
		return false // without the allocation that comes below
	}
	var reply redis.Error
	return errors.As(r.err, &reply)
}
