package lock

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// pipelineSize is how many scripts are sent together at most: enough to hide the round trips, few enough not to keep
// other clients of the server waiting.
const pipelineSize = 500

// call is one run of a script.
type call struct{ keys, args []any }

// result is what came back.
type result struct {
	reply int64
	err   error
}

// pipeline runs a script many times, in one round trip for each 500, and gives the results of each such part to done as
// they arrive; first is the index of the part's first call. It returns when ctx ends, even if the client does not heed
// contexts; the calls under way count as failed then.
func (n *node) pipeline(ctx context.Context, s *script, calls []call, done func(first int, results []result)) {
	first := 0
	for part := range slices.Chunk(calls, pipelineSize) {
		finished := make(chan []result, 1)
		go func() { finished <- n.exec(ctx, s, part) }()
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

// exec sends one part, and once more what met a server that does not know the script.
func (n *node) exec(ctx context.Context, s *script, calls []call) []result {
	results, unknown := n.execKnown(ctx, s, calls)
	if len(unknown) == 0 {
		return results
	}
	if err := n.client.ScriptLoad(ctx, s.source).Err(); err != nil {
		for _, i := range unknown {
			results[i].err = err
		}
		return results
	}
	again := make([]call, len(unknown))
	for i, place := range unknown {
		again[i] = calls[place]
	}
	second, _ := n.execKnown(ctx, s, again)
	for i, place := range unknown {
		results[place] = second[i]
	}
	return results
}

// execKnown sends one part and returns the results and the places of those that the server had no script for.
func (n *node) execKnown(ctx context.Context, s *script, calls []call) (results []result, unknown []int) {
	pipe := n.client.Pipeline()
	cmds := make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		cmds[i] = s.command(ctx, false, c.keys, c.args)
		_ = pipe.Process(ctx, cmds[i]) // only queues
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	results = make([]result, len(calls))
	for i, cmd := range cmds {
		if err := cmd.Err(); err != nil {
			results[i].err = err
			if redis.HasErrorPrefix(err, "NOSCRIPT") {
				unknown = append(unknown, i)
			}
			continue
		}
		results[i].reply, results[i].err = integer(cmd.Val())
	}
	return results, unknown
}
