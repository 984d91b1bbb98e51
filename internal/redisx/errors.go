package redisx

import "errors"

// ErrNotStarted is the error of commands on a client of this module that may not
// connect yet. Package client exports it.
var ErrNotStarted = errors.New("client: not started")
