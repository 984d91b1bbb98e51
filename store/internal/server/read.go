package server

import (
	"context"
	"slices"
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
	keys     []string
	together bool // in one MGET, to which a key of another type looks like one that does not exist
	size     int  // about what the values add up to
	contents []Content
	err      error // of all
}

// Read reads a key, whose value has about this size.
func (r *Redis) Read(ctx context.Context, key string, size int) Content {
	if r.cluster != nil {
		reply, _, err := r.run(ctx, r.scripts.get, []string{key}, size, func(bool) []any { return nil })
		if err != nil {
			return Content{Err: err}
		}
		return content(reply)
	}
	return r.read(ctx, []string{key}, false, size)[0]
}

// ReadMany reads keys, which may be on several masters of a Cluster, in one round trip, or in as many as there are 500
// keys. It returns what each contained, in the order of the keys. Outside of a Cluster a key of another type than a string
// looks like one that does not exist; [Redis.ReadEach] tells, but costs the server more. Each value has about this size.
func (r *Redis) ReadMany(ctx context.Context, keys []string, size int) []Content {
	if r.cluster != nil {
		return r.readCluster(ctx, keys)
	}
	contents := make([]Content, 0, len(keys))
	for part := range slices.Chunk(keys, manyKeys) {
		contents = append(contents, r.read(ctx, part, true, size)...)
	}
	return contents
}

// ReadFew is ReadMany for a few keys that tells keys of another type.
func (r *Redis) ReadFew(ctx context.Context, keys []string, size int) []Content {
	if r.cluster != nil {
		return r.readCluster(ctx, keys)
	}
	return r.read(ctx, keys, false, size)
}

// read reads keys together with those of other callers, and again after a failure that may pass.
func (r *Redis) read(ctx context.Context, keys []string, together bool, size int) []Content {
	for try := 1; ; try++ {
		one := &read{keys: keys, together: together, size: len(keys) * size}
		sent, err := r.reads.Do(ctx, one)
		if err != nil {
			err = &batch.AbandonedError{Sent: sent, Err: err} // and one is not ours any more
		} else if err = one.err; err == nil {
			return one.contents
		}
		if !r.pause(ctx, try, err) {
			return slices.Repeat([]Content{{Err: err}}, len(keys))
		}
	}
}

// sendReads sends reads in one round trip, with one question for the time. It leaves the outcome in each.
func (r *Redis) sendReads(ctx context.Context, reads []*read) {
	clock := redis.NewTimeCmd(ctx, "time")
	cmds := []redis.Cmder{clock}
	for _, one := range reads {
		cmds = one.commands(ctx, cmds)
	}
	r.pipeline(ctx, r.client, cmds)
	rest := cmds[1:]
	for _, one := range reads {
		if one.err = clock.Err(); one.err == nil {
			rest = one.take(rest, clock.Val().UnixMicro())
		}
	}
}

// commands appends what to send.
func (one *read) commands(ctx context.Context, cmds []redis.Cmder) []redis.Cmder {
	if !one.together {
		for _, key := range one.keys {
			cmds = append(cmds, redis.NewStringCmd(ctx, "get", key))
		}
		return cmds
	}
	args := make([]any, 1, 1+len(one.keys))
	args[0] = "mget"
	for _, key := range one.keys {
		args = append(args, key)
	}
	return append(cmds, redis.NewSliceCmd(ctx, args...))
}

// take takes the replies to its own commands, which are the first, and returns the rest.
func (one *read) take(cmds []redis.Cmder, now int64) (rest []redis.Cmder) {
	one.contents = make([]Content, len(one.keys))
	if one.together {
		list, _ := cmds[0].(*redis.SliceCmd)
		one.err = list.Err()
		for i, value := range list.Val() {
			one.contents[i] = textContent(value, now)
		}
		return cmds[1:]
	}
	for i := range one.keys {
		text, _ := cmds[i].(*redis.StringCmd)
		switch err := text.Err(); {
		case err == nil:
			one.contents[i] = Content{Raw: notNil(text.Bytes()), Now: now}
		case isWrongType(err):
			one.contents[i] = Content{Err: entry.ErrForeign, Now: now}
		case err == redis.Nil: //nolint:errorlint // an error that wraps it is another one, see redisx.IsReply
			one.contents[i].Now = now
		default:
			one.err = err
		}
	}
	return cmds[len(one.keys):]
}

// textContent converts a text of a list, nil for none.
func textContent(value any, now int64) Content {
	if text, ok := value.(string); ok {
		return Content{Raw: []byte(text), Now: now}
	}
	return Content{Now: now}
}

// notNil tells an empty text from none.
func notNil(raw []byte, _ error) []byte {
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
	switch err, failed := parts[1].(error); {
	case !failed:
		return textContent(parts[1], now)
	case isWrongType(err):
		return Content{Now: now, Err: entry.ErrForeign}
	default:
		return Content{Err: err}
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
	batch.Pipeline(ctx, r.client, r.spawn, list, func(indexes []int) {
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
