package lock

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// pipelineSize is how many scripts are sent together at most: enough to hide the round trips, few enough not to keep
// other clients of the server waiting.
const pipelineSize = 500

// extendTogether is how many locks one run of the extend script deals with: a command for each would cost more than what
// it does. It keeps the server busy for a tenth of a millisecond.
const extendTogether = 100

// result is what came back.
type result struct {
	reply int64
	err   error
}

// pipeline makes calls of one script, in one round trip for each 500, and gives the results of each such part to done as
// they arrive; first is the index of the part's first call. It returns when ctx ends, even if the client does not heed
// contexts; the calls under way count as failed then.
func (n *node) pipeline(ctx context.Context, calls []call, done func(first int, results []result)) {
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

// exec sends one part, and once more what met a server that does not know the script.
func (n *node) exec(ctx context.Context, calls []call) []result {
	results, unknown := n.execKnown(ctx, calls)
	if len(unknown) == 0 {
		return results
	}
	if err := n.client.ScriptLoad(ctx, calls[0].script.source).Err(); err != nil {
		for _, i := range unknown {
			results[i].err = err
		}
		return results
	}
	again := make([]call, len(unknown))
	for i, place := range unknown {
		again[i] = calls[place]
	}
	second, _ := n.execKnown(ctx, again)
	for i, place := range unknown {
		results[place] = second[i]
	}
	return results
}

// execKnown sends one part and returns the results and the places of those that the server had no script for.
func (n *node) execKnown(ctx context.Context, calls []call) (results []result, unknown []int) {
	s := calls[0].script
	together := 1
	if s.many && n.cluster == nil { // in a cluster the keys are on different nodes
		together = extendTogether
	}
	pipe := n.client.Pipeline()
	var cmds []*redis.Cmd
	for group := range slices.Chunk(calls, together) {
		cmd := join(group).command(ctx)
		cmds = append(cmds, cmd)
		_ = pipe.Process(ctx, cmd) // only queues
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, cmd := range cmds {
		first := i * together
		group := replies(cmd, s, min(together, len(calls)-first))
		if redis.HasErrorPrefix(group[0].err, "NOSCRIPT") {
			for place := range group {
				unknown = append(unknown, first+place)
			}
		}
		results = append(results, group...)
	}
	return results, unknown
}

// join makes one call of several of the extend script.
func join(calls []call) call {
	if len(calls) == 1 {
		return calls[0]
	}
	keys := make([]any, 0, 3*len(calls))
	args := make([]any, 0, 2*len(calls))
	for _, c := range calls {
		keys = append(keys, c.args[beforeKeys])
		args = append(args, c.args[beforeKeys+1:]...)
	}
	return newCall(calls[0].script, len(calls), append(keys, args...)...)
}

// replies takes apart what the server has said of a number of calls.
func replies(cmd *redis.Cmd, s *script, count int) []result {
	results := make([]result, count)
	reply, err := cmd.Result()
	switch {
	case err != nil:
	case s.many:
		var numbers []int64
		if numbers, err = integers(reply, count); err == nil {
			for i, number := range numbers {
				results[i].reply = number
			}
		}
	default:
		results[0].reply, err = integer(reply)
	}
	if err != nil {
		for i := range results {
			results[i].err = err
		}
	}
	return results
}
