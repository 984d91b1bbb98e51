package client

import (
	"fmt"
	"io"
)

var (
	_ fmt.Formatter = (*Redis)(nil)
	_ fmt.Stringer  = (*Redis)(nil)
)

// String tells kind and address of the server, without credentials.
func (r *Redis) String() string {
	switch {
	case r == nil:
		return "<nil>"
	case r.zero():
		return "client.Redis(zero)"
	}
	return "client.Redis(" + r.Mode() + " " + r.Addr() + ")"
}

// Format writes String, whatever the verb. Without it fmt would take a verb that
// does not fit, such as %s, as a reason to show all fields, and the password is
// in one of them.
func (r *Redis) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, r.String()) }
