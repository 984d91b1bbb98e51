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
// spawn starts a goroutine; nil is a go statement. A client that does not heed the end of
// contexts goes on in one after Pipeline has returned. A panic of the client's is passed on.
//
// Pipeline calls done with the indexes of the commands that were answered, or have
// failed, as soon as they are, maybe several times at once. Commands for which done
// was not called when it returns must not be touched any more: their replies may
// still come.
func Pipeline(
	ctx context.Context, client redis.UniversalClient, spawn func(func()), list []Keyed, done func(indexes []int),
) {
	redisx.Raise(Attempt(ctx, client, spawn, list, done))
}

// Attempt is Pipeline for goroutines in which nobody recovers: a panic of the client's is returned as an error, and so is
// that a hook has ended its goroutine.
func Attempt(
	ctx context.Context, client redis.UniversalClient, spawn func(func()), list []Keyed, done func(indexes []int),
) error {
	if spawn == nil {
		spawn = func(f func()) { go f() }
	}
	cluster, _ := redisx.Unwrap[*redis.ClusterClient](client)
	groups := redisx.ByMaster(cluster, len(list), func(i int) string { return list[i].Key })
	panics := make(chan error, len(groups))
	var all sync.WaitGroup
	for _, indexes := range groups {
		all.Go(func() {
			for part := range slices.Chunk(indexes, pipelineSize) {
				if ctx.Err() != nil {
					return
				}
				sent, err := sendPart(ctx, client, spawn, list, part)
				if err != nil {
					panics <- err
				}
				if !sent {
					return
				}
				done(part)
			}
		})
	}
	all.Wait()
	close(panics)
	return <-panics
}

// sendPart sends some commands of a list, and reports false if ctx ended first. Its
// error is a panic of the client's.
func sendPart(
	ctx context.Context, client redis.UniversalClient, spawn func(func()), list []Keyed, part []int,
) (bool, error) {
	cmds := make([]redis.Cmder, len(part))
	for i, index := range part {
		cmds[i] = list[index].Cmd
	}
	sent := make(chan error, 1)
	spawn(func() {
		err := redisx.ErrExited
		defer func() { sent <- err }()
		err = redisx.Catch(func() error {
			send(ctx, client, cmds)
			return nil
		})
	})
	select {
	case err := <-sent:
		return err == nil, err
	case <-ctx.Done():
	}
	select {
	case err := <-sent: // at the same time
		return err == nil, err
	default:
		return false, nil
	}
}
