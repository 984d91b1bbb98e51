package server

import (
	"context"
	"strconv"
	"time"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/store/internal/entry"
)

// Any is the version of a write that replaces whatever is there.
const Any int64 = -1

// Outcome is what came of a write.
type Outcome uint8

const (
	// Failed means that nothing was written, and nothing will be. Err says why.
	Failed Outcome = iota
	// Uncertain means that the write may have been done, or may be done yet: a try had no reply, and what is there now
	// does not tell. Err says why there was none, if there was never any.
	//
	// A write without an expected version is executed by its first try alone; others only look for what it has written.
	// One that expects a version is executed by each, as only one of them can find that version.
	Uncertain
	// Written means that it was done, or that there was nothing to do.
	Written
	// Conflict means that another version is there than was expected.
	Conflict
	// Fenced means that a write with a larger fencing token was there before.
	Fenced
	// Foreign means that something else has written the key, or another codec, and it stays as it is.
	Foreign
	// NotFound means that there is nothing to touch.
	NotFound
	// Enough means that what was to be touched lasts for long enough.
	Enough
)

// Reply is what came of a write.
type Reply struct {
	Outcome Outcome
	// Version is that of what was written, 0 if there was nothing to delete.
	Version int64
	// Now is the server's clock in microseconds, of Written and Conflict.
	Now int64
	// Keep is for how long the key is kept beyond its TTL, of a Touch that has Written.
	Keep time.Duration
	// Raw is what is there instead, of Conflict; nil if there is nothing.
	Raw []byte
	// Fence is the larger token, of Fenced.
	Fence int64
	// Err is what the client reported, of Failed and Uncertain.
	Err error
	// Repeated says that an earlier try may have been executed, or may be yet. Only what is Foreign leaves open what became
	// of that.
	Repeated bool
}

// Put says what to write.
type Put struct {
	Key   string
	Lease string // a key to delete in the same step, or ""

	Kind               entry.Kind
	Codec, Compression byte
	Payload            []byte // must not be changed any more
	Tags               string

	// Write is the ID of this write. See [entry.NewID].
	Write string
	// Version is what must be there: Any, a version, or 0 for nothing.
	Version int64
	// Fence is a fencing token, 0 for none.
	Fence int64
	// TTL is how long the value is fresh: 0 for always, KeepTTL for as long as the one that it replaces. Fractions of
	// a millisecond are dropped.
	TTL time.Duration
	// Keep is how long the key lasts beyond its TTL; for a state only if it has a fence.
	Keep time.Duration
}

// KeepTTL is a TTL that stays as it is.
const KeepTTL = -time.Millisecond

// Put writes a value.
func (r *Redis) Put(ctx context.Context, p Put) Reply {
	keys := []string{p.Key}
	channel := "" // of a State
	if p.Lease != "" {
		keys, channel = append(keys, p.Lease), r.channel
	}
	coding, version := string([]byte{p.Codec, p.Compression}), expected(p.Version)
	tags := p.Tags
	if tags == "" {
		tags = string(entry.Plain)
	}
	return r.write(ctx, r.scripts.put, keys, func(again bool) []any {
		return []any{
			string(p.Kind), coding, p.Payload, p.Write, flag(again), version, p.Fence,
			p.TTL.Milliseconds(), p.Keep.Milliseconds(), tags, channel,
		}
	})
}

// Delete says what to delete, of a State. See [Put].
type Delete struct {
	Key     string
	Codec   byte
	Write   string
	Version int64
	Fence   int64
	// Remember is for how long the ID of the write is remembered, RememberFence the same if there is a fence.
	Remember, RememberFence time.Duration
}

// Delete deletes a value of a State.
func (r *Redis) Delete(ctx context.Context, d Delete) Reply {
	version := expected(d.Version)
	return r.write(ctx, r.scripts.remove, []string{d.Key}, func(again bool) []any {
		return []any{
			d.Write, flag(again), version, d.Fence, d.Remember.Milliseconds(), d.RememberFence.Milliseconds(),
			string(d.Codec),
		}
	})
}

// Drop is a value of a Cache that is to be deleted, together with the lease on it.
type Drop struct {
	Key, Lease string
	Codec      byte
	// HoldOff is for how long nobody is granted the lease after that, 0 for none: those who ask find Why, which nothing else may
	// leave there. An earlier one that lasts longer stays.
	HoldOff time.Duration
	Why     string
}

// Drop deletes. It may be executed twice: that costs another load, no more.
func (r *Redis) Drop(ctx context.Context, d Drop) Reply {
	return r.write(ctx, r.scripts.drop, []string{d.Key, d.Lease}, func(bool) []any {
		return []any{string(d.Codec), r.channel, d.HoldOff.Milliseconds(), d.Why}
	})
}

// Touch says what is to last for another time.
type Touch struct {
	Key   string
	Kind  entry.Kind // Value or State
	Codec byte
	// TTL is counted from now, 0 for none, KeepTTL for the TTL that the value has: then nothing is done unless less than half
	// of that is left.
	TTL time.Duration
	// Keep is that of Put. With a TTL of KeepTTL it may be KeepTTL, for as long as the key is kept now.
	Keep time.Duration
}

// Touch makes a value last for another time, and leaves its version. Like a write without an expected version it is
// executed by its first try alone.
func (r *Redis) Touch(ctx context.Context, t Touch) Reply {
	kinds := "va"
	if t.Kind == entry.State {
		kinds = "sd"
	}
	return r.write(ctx, r.scripts.touch, []string{t.Key}, func(again bool) []any {
		return []any{kinds, t.TTL.Milliseconds(), t.Keep.Milliseconds(), flag(again), string(t.Codec)}
	})
}

// write runs a script that writes.
func (r *Redis) write(ctx context.Context, script *redisx.Script, keys []string, args func(again bool) []any) Reply {
	reply, lost, err := r.Run(ctx, script, keys, args)
	if err == nil {
		var result Reply
		if result, err = parse(reply); err == nil {
			result.Repeated = lost
			return result
		}
		lost = true
	}
	if lost {
		return Reply{Outcome: Uncertain, Err: err}
	}
	return Reply{Outcome: Failed, Err: err}
}

// parse reads the reply of a script that writes.
func parse(reply any) (Reply, error) {
	parts, ok := reply.([]any)
	if !ok || len(parts) == 0 {
		return Reply{}, errUnexpected
	}
	rest := parts[1:]
	switch name, _ := parts[0].(string); {
	case name == "written" && (len(rest) == 2 || len(rest) == 3):
		version, ok1 := rest[0].(int64)
		now, ok2 := rest[1].(int64)
		keep, ok3 := int64(0), true
		if len(rest) == 3 {
			keep, ok3 = rest[2].(int64)
		}
		if ok1 && ok2 && ok3 {
			return Reply{Outcome: Written, Version: version, Now: now, Keep: time.Duration(keep) * time.Millisecond}, nil
		}
	case name == "conflict" && len(rest) == 2:
		now, ok := rest[1].(int64)
		if raw, some := rest[0].(string); some && ok {
			return Reply{Outcome: Conflict, Raw: []byte(raw), Now: now}, nil
		}
		if rest[0] == nil && ok {
			return Reply{Outcome: Conflict, Now: now}, nil
		}
	case name == "fenced" && len(rest) == 1:
		if fence, ok := rest[0].(int64); ok {
			return Reply{Outcome: Fenced, Fence: fence}, nil
		}
	case len(rest) == 0:
		if outcome, ok := map[string]Outcome{
			"foreign": Foreign, "uncertain": Uncertain, "absent": NotFound, "enough": Enough,
		}[name]; ok {
			return Reply{Outcome: outcome}, nil
		}
	}
	return Reply{}, errUnexpected
}

func expected(version int64) string {
	if version == Any {
		return string(entry.Plain)
	}
	return strconv.FormatInt(version, 10)
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return "0"
}
