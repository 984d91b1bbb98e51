package redisx

import "github.com/redis/go-redis/v9"

// Once returns cmd as one that the client does not send a second time by itself
// when the reply is lost. Redirections of a Cluster are followed all the same: a
// server that redirects has executed nothing.
func Once(cmd redis.Cmder) redis.Cmder { return once{cmd} }

type once struct{ redis.Cmder }

// NoRetry is asked by go-redis before it sends a command again.
func (once) NoRetry() bool { return true }
