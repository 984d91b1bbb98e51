package redisx

import (
	"slices"

	"github.com/redis/go-redis/v9"
)

// Unsent gives the error of a pipeline to its commands if none of them has one. That is how
// go-redis leaves them when the server refuses the connection that the pipeline needed, as
// for a wrong password or too many clients: each would look like a success without a value.
func Unsent(cmds []redis.Cmder, err error) {
	if err == nil || slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Err() != nil }) {
		return
	}
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
}
