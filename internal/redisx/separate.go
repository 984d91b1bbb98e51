package redisx

import (
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ConnectionHooker is implemented by clients that wrap one of go-redis and add a hook to it which every connection needs,
// such as one that keeps passwords out of errors.
type ConnectionHooker interface {
	// ConnectionHook returns the hook for another client of the same server.
	ConnectionHook() redis.Hook
}

// Separate returns a client for the server of c that has connections of its own: what waits for one of c's does not hold
// it up. In a Cluster it is for one master, whose client is given; otherwise that is nil. It heeds the deadlines of
// contexts. Of c's hooks it has that of [ConnectionHooker] only. What else is to differ from c, adjust changes. The caller
// closes it. Without a *redis.Client that c wraps, or is, it returns nil.
func Separate(
	c redis.UniversalClient, master *redis.Client, connections int, adjust ...func(*redis.Options),
) *redis.Client {
	if master == nil {
		var ok bool
		if master, ok = Unwrap[*redis.Client](c); !ok {
			return nil
		}
	}
	options := *master.Options()
	undoDefaults(&options)
	options.PoolSize, options.MinIdleConns, options.MaxIdleConns, options.MaxActiveConns = connections, 0, 0, 0
	options.ContextTimeoutEnabled = true
	// What handles push messages belongs to c and changes with its connections: shared, there is a race, lines on stderr, and
	// a panic of the second client that registers.
	options.PushNotificationProcessor = nil
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	for _, change := range adjust {
		change(&options)
	}
	separate := redis.NewClient(&options)
	if hooker, ok := Unwrap[ConnectionHooker](c); ok {
		separate.AddHook(hooker.ConnectionHook())
	}
	return separate
}

// undoDefaults turns options that a client has made of its own into those it was given: there "none" is 0, which a client
// that is given it takes for its default.
func undoDefaults(o *redis.Options) {
	if o.MaxRetries == 0 {
		o.MaxRetries = -1
	}
	for _, pause := range []*time.Duration{&o.MinRetryBackoff, &o.MaxRetryBackoff} {
		if *pause == 0 {
			*pause = -1
		}
	}
	for _, timeout := range []*time.Duration{&o.ReadTimeout, &o.WriteTimeout} {
		if *timeout <= 0 { // 0 for none, -1 for not even clearing an earlier one
			*timeout--
		}
	}
}
