package redisx

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// ErrNotStarted is the error of commands on a client of this module that may not
// connect yet. Package client exports it.
var ErrNotStarted = errors.New("client: not started: under Fx use it in a start hook (fx.StartHook) or later, " +
	"not in a constructor or an fx.Invoke")

// IsReply reports whether err is what a server said. Errors that a script put into
// its reply count if their type has the method RedisError. A redis.Nil inside of
// another error does not: go-redis says so when no sentinel knows the master.
func IsReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && (reply != redis.Nil || err == redis.Nil) //nolint:errorlint // see above
}

// noMaster is the error of go-redis when it got no master from any sentinel. Only this text says so.
const noMaster = "redis: all sentinels specified in configuration are unreachable"

// IsUnsent reports whether err came before the command was sent: there was no
// connection to send it on, or the client is closed or not started. Of others, such
// as that of a context, nobody knows when they came. An error can say so by a method
// Unsent that returns true.
func IsUnsent(err error) bool {
	var network *net.OpError
	var marked interface{ Unsent() bool }
	return errors.As(err, &network) && network.Op == "dial" || errors.As(err, &marked) && marked.Unsent() ||
		err != nil && strings.Contains(err.Error(), noMaster) || errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) || isUnusable(err)
}

// isUnusable reports whether the client is closed, or may not connect yet.
func isUnusable(err error) bool {
	return errors.Is(err, redis.ErrClosed) || errors.Is(err, ErrNotStarted)
}

// IsTransient reports whether a command that failed so may succeed when it is sent
// again in a moment: the network failed, the server is in a state that passes (it
// starts, changes its role, moves the key's slot, waits for its replicas, runs a long
// script of somebody else), or there was no connection to spare. The end of a
// deadline counts as well, as network time-outs look the same; a caller that has no
// time left has to see to that itself.
func IsTransient(err error) bool {
	if !IsReply(err) {
		return err != nil && !isUnusable(err) && !errors.Is(err, context.Canceled)
	}
	for _, code := range [...]string{
		"LOADING ", "READONLY ", "MASTERDOWN ", "CLUSTERDOWN ", "TRYAGAIN ", "UNBLOCKED ", "BUSY ", "NOREPLICAS ",
		"max number of clients",
	} {
		if redis.HasErrorPrefix(err, code) {
			return true
		}
	}
	return false
}
