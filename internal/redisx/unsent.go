package redisx

import (
	"slices"

	"github.com/redis/go-redis/v9"
)

// SetErrs gives all commands of a pipeline err, in place of an error that one of them may
// have from before: that of a pipeline which was not sent at all, or nil before it is sent.
func SetErrs(cmds []redis.Cmder, err error) {
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
}

// Unsent gives the error of a pipeline to its commands, which had none before it was sent, if
// none of them has one. That is how go-redis leaves them when the server refuses the connection
// that the pipeline needed, as for a wrong password or too many clients: each would look like a
// success without a value.
func Unsent(cmds []redis.Cmder, err error) {
	if err != nil && !slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Err() != nil }) {
		SetErrs(cmds, err)
	}
}
