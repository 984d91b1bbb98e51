package server

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/batch"
	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store/internal/entry"
)

const (
	// parallelReads is how many batches of reads may be under way.
	parallelReads = 4
	// manyKeys is how many keys are read in one command at most.
	manyKeys = 500
)

// Content is what a key contained at a time of its server's clock.
type Content struct {
	// Raw is the text, nil if there was none. It must not be changed.
	Raw []byte
	// Now is the time in microseconds.
	Now int64
	// Err says why the rest is not known: [entry.ErrForeign] if the key is no string, an error of the client, or a
	// [*batch.AbandonedError] if the context has ended.
	Err error
}

// read is what a caller wants to read, and what came of it.
type read struct {
	keys []string
	many bool // by MGET, to which a key of another type looks like one that does not exist
	raw  [][]byte
	now  int64
	err  error
}

// Read reads a key.
func (r *Redis) Read(ctx context.Context, key string) Content {
	if r.cluster != nil {
		reply, _, err := r.Run(ctx, r.scripts.get, []string{key}, func(bool) []any { return nil })
		if err != nil {
			return Content{Err: err}
		}
		return content(reply)
	}
	c := r.read(ctx, read{keys: []string{key}})
	return c[0]
}

// ReadMany reads keys, which may be on several masters of a Cluster, in as few round trips as there are 500 keys. It
// returns what each contained, in the order of the keys. Outside of a Cluster a key of another type than a string looks
// like one that does not exist.
func (r *Redis) ReadMany(ctx context.Context, keys []string) []Content {
	if r.cluster != nil {
		return r.readCluster(ctx, keys)
	}
	contents := make([]Content, 0, len(keys))
	for len(keys) > 0 {
		part := keys[:min(len(keys), manyKeys)]
		keys = keys[len(part):]
		contents = append(contents, r.read(ctx, read{keys: part, many: true})...)
	}
	return contents
}

// read reads keys together with those of other callers, and again after a failure that may pass.
func (r *Redis) read(ctx context.Context, what read) []Content {
	contents := make([]Content, len(what.keys))
	for try := 1; ; try++ {
		attempt := what
		err := r.attempt(ctx, &attempt)
		if err == nil {
			for i, raw := range attempt.raw {
				contents[i] = Content{Raw: raw, Now: attempt.now}
			}
			return contents
		}
		if !r.pause(ctx, try, err) {
			for i := range contents {
				contents[i].Err = err
			}
			return contents
		}
	}
}

// attempt has a read sent once.
func (r *Redis) attempt(ctx context.Context, one *read) error {
	if sent, err := r.reads.Do(ctx, one); err != nil {
		return &batch.AbandonedError{Sent: sent, Err: err}
	}
	return one.err
}

// sendReads sends reads in one round trip, with one question for the time. It leaves the outcome in each.
func (r *Redis) sendReads(ctx context.Context, reads []*read) {
	clock := redis.NewTimeCmd(ctx, "time")
	cmds := make([]redis.Cmder, 1, 1+len(reads))
	cmds[0] = clock
	for _, one := range reads {
		cmds = append(cmds, one.command(ctx))
	}
	pipe := r.client.Pipeline()
	for _, cmd := range cmds {
		_ = pipe.Process(ctx, redisx.Once(cmd)) // only queues
	}
	_, err := pipe.Exec(ctx)
	redisx.Unsent(cmds, err)
	for i, one := range reads {
		if one.err = clock.Err(); one.err == nil {
			one.now = clock.Val().UnixMicro()
			one.take(cmds[1+i])
		}
	}
}

// command returns what to send.
func (one *read) command(ctx context.Context) redis.Cmder {
	if !one.many {
		return redis.NewStringCmd(ctx, "get", one.keys[0])
	}
	args := make([]any, 1, 1+len(one.keys))
	args[0] = "mget"
	for _, key := range one.keys {
		args = append(args, key)
	}
	return redis.NewSliceCmd(ctx, args...)
}

// take takes the reply out of a command.
func (one *read) take(cmd redis.Cmder) {
	one.raw = make([][]byte, len(one.keys))
	switch cmd := cmd.(type) {
	case *redis.StringCmd:
		raw, err := cmd.Bytes()
		switch {
		case err == nil:
			one.raw[0] = notNil(raw)
		case isWrongType(err):
			one.err = entry.ErrForeign
		case err != redis.Nil: //nolint:errorlint // an error that wraps it is another one, see redisx.IsReply
			one.err = err
		}
	case *redis.SliceCmd:
		if one.err = cmd.Err(); one.err == nil {
			for i, value := range cmd.Val() {
				if text, ok := value.(string); ok {
					one.raw[i] = []byte(text)
				}
			}
		}
	}
}

// notNil tells an empty text from none.
func notNil(raw []byte) []byte {
	if raw == nil {
		return []byte{}
	}
	return raw
}

func isWrongType(err error) bool { return err != nil && strings.Contains(err.Error(), "WRONGTYPE") }

// content converts the reply of get.lua.
func content(reply any) Content {
	parts, ok := reply.([]any)
	if !ok || len(parts) != 2 {
		return Content{Err: errUnexpected}
	}
	now, err := microseconds(parts[0])
	if err != nil {
		return Content{Err: err}
	}
	switch value := parts[1].(type) {
	case nil:
		return Content{Now: now}
	case string:
		return Content{Raw: []byte(value), Now: now}
	case error:
		if isWrongType(value) {
			return Content{Now: now, Err: entry.ErrForeign}
		}
		return Content{Err: value}
	default:
		return Content{Err: errUnexpected}
	}
}

// readCluster reads keys from their masters, which are asked in parallel.
func (r *Redis) readCluster(ctx context.Context, keys []string) []Content {
	contents, todo := make([]Content, len(keys)), make([]int, len(keys))
	for i := range keys {
		todo[i] = i
	}
	full := false // the scripts are sent in full, as a server does not know them
	for try := 1; ; try++ {
		failed, unknown := r.readEach(ctx, keys, todo, full, contents)
		if len(failed) == 0 {
			return contents
		}
		if full = unknown; !full && !r.pause(ctx, try, contents[failed[0]].Err) {
			return contents
		}
		todo = failed
	}
}

// readEach reads some of the keys. It returns those that failed in a way that may pass, and whether that is because
// a server does not know the script.
func (r *Redis) readEach(
	ctx context.Context, keys []string, which []int, full bool, contents []Content,
) (failed []int, unknown bool) {
	list, cmds := make([]batch.Keyed, len(which)), make([]*redis.Cmd, len(which))
	for i, index := range which {
		cmds[i] = r.scripts.get.Command(ctx, keys[index:index+1])
		if full {
			cmds[i] = r.scripts.get.Full(ctx, cmds[i])
		}
		list[i] = batch.Keyed{Key: keys[index], Cmd: cmds[i]}
		contents[index] = Content{}
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	done := make([]bool, len(which)) // each is written by one goroutine
	batch.Pipeline(ctx, r.client, list, func(indexes []int) {
		for _, i := range indexes {
			done[i] = true
			if err := cmds[i].Err(); err != nil {
				contents[which[i]] = Content{Err: err}
			} else {
				contents[which[i]] = content(cmds[i].Val())
			}
		}
	})
	for i, index := range which {
		switch err := contents[index].Err; {
		case !done[i]:
			contents[index].Err = &batch.AbandonedError{Sent: true, Err: context.Cause(ctx)}
		case redisx.IsUnknownScript(err):
			failed, unknown = append(failed, index), true
		case err != nil && err != entry.ErrForeign && redisx.IsTransient(err): //nolint:errorlint // our own
			failed = append(failed, index)
		}
	}
	return failed, unknown
}
