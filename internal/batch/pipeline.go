package batch

import (
	"context"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

// pipelineSize is how many commands of a list are sent together at most: enough to
// hide the round trips, few enough not to keep other clients of the server waiting.
const pipelineSize = 500

// Keyed is a command and its first key, by which a Cluster is asked for its master.
type Keyed struct {
	Key string
	Cmd redis.Cmder
}

// Pipeline sends a list of commands, 500 in each round trip, and returns when all
// are answered or ctx has ended. In a Cluster each master has pipelines of its own:
// go-redis would wait for all of them, so that one that hangs held up the others'
// replies.
//
// The client may send a command again whose reply was lost, so each must be one that
// can be executed twice.
//
// Pipeline calls done with the indexes of the commands that were answered, or have
// failed, as soon as they are, maybe several times at once. Commands for which done
// was not called when it returns must not be touched any more: their replies may
// still come.
func Pipeline(ctx context.Context, client redis.UniversalClient, list []Keyed, done func(indexes []int)) {
	var all sync.WaitGroup
	for _, indexes := range byMaster(ctx, client, list) {
		all.Go(func() {
			for part := range slices.Chunk(indexes, pipelineSize) {
				if !sendPart(ctx, client, list, part) {
					return
				}
				done(part)
			}
		})
	}
	all.Wait()
}

// byMaster returns the indexes of a list, divided by master in a Cluster.
func byMaster(ctx context.Context, client redis.UniversalClient, list []Keyed) map[string][]int {
	cluster, _ := redisx.Unwrap[*redis.ClusterClient](client)
	groups := make(map[string][]int)
	for i, c := range list {
		addr := ""
		if cluster != nil {
			addr = master(ctx, cluster, c.Key)
		}
		groups[addr] = append(groups[addr], i)
	}
	return groups
}

// sendPart sends some commands of a list, and reports false if ctx ended first. A
// client that does not heed the end of contexts goes on in the background.
func sendPart(ctx context.Context, client redis.UniversalClient, list []Keyed, part []int) bool {
	if ctx.Err() != nil {
		return false
	}
	cmds := make([]redis.Cmder, len(part))
	for i, index := range part {
		cmds[i] = list[index].Cmd
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		send(ctx, client, cmds)
	}()
	select {
	case <-sent:
		return true
	case <-ctx.Done():
	}
	select {
	case <-sent: // at the same time
		return true
	default:
		return false
	}
}
