package store

import (
	"math/rand/v2"
	"time"
)

const (
	defaultCacheTTL     = 5 * time.Minute
	defaultJitter       = 0.1
	defaultFailurePause = time.Second
	defaultHardTimeout  = 30 * time.Second
)

// cacheSettings are those of a Cache or of one of its calls.
type cacheSettings struct {
	jitter       float64
	stale        time.Duration // 0 for not at all
	negative     time.Duration // 0 for not at all
	early        float64       // 0 for not at all
	soft, hard   time.Duration // soft is 0 for none
	pause        time.Duration
	holdOff      time.Duration
	sharedErrors bool
	sharedValues bool
	clone        any // func(V) V, or nil
}

// isEarly reports whether a value with this TTL that is fresh for so long is to be loaded again.
func (s *settings) isEarly(left, ttl time.Duration) bool {
	return s.cache.early > 0 && left > 0 && float64(left) <= float64(ttl)*(1-s.cache.early)
}

func cacheDefaults() cacheSettings {
	return cacheSettings{jitter: defaultJitter, hard: defaultHardTimeout, pause: defaultFailurePause}
}

// lifetime returns for how long a value is fresh that is stored now: the TTL, less what the jitter takes.
func (s *settings) lifetime() time.Duration {
	less := time.Duration(float64(s.ttl) * s.cache.jitter * rand.Float64())
	return max(s.ttl-less, time.Millisecond).Truncate(time.Millisecond)
}

// WithJitter shortens each TTL by a random part of up to this fraction, so that values which were stored together do not
// all end together. It overrides the default of 0.1; 0 is for none, and it must be below 1. For [NewCache], loads and
// [Cache.Set].
func WithJitter(fraction float64) Option {
	return option("WithJitter", inCache|inLoad|inSet,
		refuse(!(fraction >= 0 && fraction < 1), "WithJitter", "is not from 0 to below 1"),
		func(s *settings) { s.cache.jitter = fraction })
}

// WithStale keeps values for this long beyond their TTL, so that they can be returned when a loader fails or takes too long,
// see [WithSoftTimeout]. An [Item] of such a value is marked, and has the cause. They are kept in Redis; while that does not
// answer, only a near cache has stale values. The default, 0, is not to. For [NewCache], loads and [Cache.Set]; a load returns
// what is no older than its own setting.
func WithStale(beyond time.Duration) Option {
	return option("WithStale", inCache|inLoad|inSet, checkDuration("WithStale", beyond),
		func(s *settings) { s.cache.stale = beyond.Truncate(time.Millisecond) })
}

// WithNegative stores for this long that there is no value when a loader returns ErrNotFound. The default, 0, is not to:
// all who wait for that load get ErrNotFound, and the next call loads again. For [NewCache] and loads.
func WithNegative(ttl time.Duration) Option {
	return option("WithNegative", inCache|inLoad, checkDuration("WithNegative", ttl),
		func(s *settings) { s.cache.negative = ttl.Truncate(time.Millisecond) })
}

// WithEarly has a value loaded again in the background once this fraction of its own TTL is over, by one process, when a load
// asks for it. Callers get the value that is there, which is fresh, and never wait for that load. 0.8 is a good choice; the
// default, 0, is not to. It must be below 1. For [NewCache] and loads.
func WithEarly(fraction float64) Option {
	return option("WithEarly", inCache|inLoad,
		refuse(!(fraction >= 0 && fraction < 1), "WithEarly", "is not from 0 to below 1"),
		func(s *settings) { s.cache.early = fraction })
}

// WithSoftTimeout returns a stale value, see [WithStale], to a caller whose load takes longer than d. The load goes on, for
// those who come later. When there is no stale value, callers wait on. While Redis does not answer, it also bounds how long a
// caller waits until its loader may run. The default, 0, is none. For [NewCache] and loads.
func WithSoftTimeout(d time.Duration) Option {
	return option("WithSoftTimeout", inCache|inLoad, refuse(d < 0, "WithSoftTimeout", "is negative"),
		func(s *settings) { s.cache.soft = d })
}

// WithHardTimeout ends a load that takes longer than d: its context ends, and callers get an error matching ErrLoadTimeout,
// or a stale value, even if the loader goes on. So it bounds for how long a loader that hangs keeps others from loading,
// overriding the default of 30s. It must be positive. For [NewCache] and loads.
func WithHardTimeout(d time.Duration) Option {
	return option("WithHardTimeout", inCache|inLoad, refuse(d <= 0, "WithHardTimeout", "is not positive"),
		func(s *settings) { s.cache.hard = d })
}

// WithFailurePause sets for how long after a loader failed nobody runs it again for the same key, in any process: callers get
// ErrLoad, see [WithSharedErrors], or a stale value. There is no pause after a panic, nor while Redis does not answer. It
// overrides the default of 1s; 0 is for no pause. For [NewCache] and loads.
func WithFailurePause(d time.Duration) Option {
	return option("WithFailurePause", inCache|inLoad, checkDuration("WithFailurePause", d),
		func(s *settings) { s.cache.pause = d.Truncate(time.Millisecond) })
}

// WithHoldOff keeps what is loaded within d after a [Cache.Delete] of its key from being stored, as it may come from a replica
// of a database that does not have the change yet. Callers get it all the same, but each process loads by itself, and again
// for the next caller. [Cache.Set] ends that time, and no Delete does, not even one of a Cache with a shorter d or none.
// [Cache.Clear] begins it for the values that it finds, and [Cache.InvalidateTag] for none. It takes a key in Redis: where there is
// no memory for that, a Delete of a key without a value fails, and is repeated. It overrides the default of 0, which is for none.
// For [NewCache].
func WithHoldOff(d time.Duration) Option {
	return option("WithHoldOff", inCache, checkDuration("WithHoldOff", d),
		func(s *settings) { s.cache.holdOff = d.Truncate(time.Millisecond) })
}

// WithSharedErrors lets other processes, and later callers during the pause of [WithFailurePause], have the text of a loader's
// error, up to 200 bytes of it, by way of Redis. The default is not to: they learn that the load failed, took too long or
// panicked. For [NewCache] and loads.
func WithSharedErrors() Option {
	return option("WithSharedErrors", inCache|inLoad, nil, func(s *settings) { s.cache.sharedErrors = true })
}

// WithShared lets callers share one decoded value, which they must not change then. The default is that a value is decoded for
// each caller, unless the type has no pointers that could lead to anything shared. See also [WithClone]. For [NewCache].
func WithShared() Option {
	return option("WithShared", inCache, nil, func(s *settings) { s.cache.sharedValues = true })
}

// WithClone lets f copy a decoded value for each caller, which is quicker than decoding it for each. f is called concurrently
// and must not change its argument, nor return anything that callers might change for each other. V is that of the Cache. For
// [NewCache].
func WithClone[V any](f func(V) V) Option {
	return option("WithClone", inCache, refuse(f == nil, "WithClone", "is nil"), func(s *settings) { s.cache.clone = f })
}
