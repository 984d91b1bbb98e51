package redisx

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Discreet returns err without what a server's reply quotes of the command: one that does not know a command repeats it
// with its arguments, which may be values that nobody is to see.
func Discreet(err error) error {
	if _, ok := errors.AsType[redis.Error](err); !ok {
		return err
	}
	text := err.Error()
	at := strings.Index(strings.ToLower(text), "unknown command")
	if at < 0 {
		return err
	}
	if before, _, quotes := strings.Cut(text, ", with args beginning with"); quotes {
		return discreetError(before)
	}
	return discreetError(text[:at] + "unknown command (which is left out, with its arguments)")
}

// discreetError is a reply of which a part is left out.
type discreetError string

func (e discreetError) Error() string { return string(e) }
func (discreetError) RedisError()     {}
