package store

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/compozy/cache/internal/inbox"
	"github.com/compozy/cache/internal/redisx"
)

// Hint is a message to a waiter.
type Hint struct {
	// Name is the waiter's.
	Name string
	// Rechecked says that another waiter has asked, and that the lock may be free after Left. Otherwise the lock was
	// released and is reserved for this waiter.
	Rechecked bool
	Left      time.Duration
}

// Listener receives what comes through an inbox. It is safe for concurrent use.
type Listener interface {
	// Hear is called for each message.
	Hear(h Hint)
	// Up is called when messages arrive from now on; earlier ones may have been lost.
	Up()
	// Down is called when messages cannot arrive, and each time that connecting fails, with the reason.
	Down(err error)
}

// inboxLifetime is for how long a connection of an inbox to what Sentinel says is the master is used at least, and up to half as
// long again: nobody who releases sends messages through a former master, though it may go on to answer. It is longer than that
// of renewals as a message that is missed costs two seconds at most, and no lock.
//
// A new connection costs more than the round trips that open it: as messages may have been lost meanwhile, the process asks
// for each resource that it waits for. Jitter keeps processes that were started, or have connected again, together from doing
// so together for ever.
const inboxLifetime = 10 * time.Second

// nextLifetime returns for how long the next connection is used.
func nextLifetime() time.Duration { return inboxLifetime + rand.N(inboxLifetime/2) }

// Listen reads an inbox until ctx ends, and connects again whenever the connection fails.
func (s *Redis) Listen(ctx context.Context, channel string, l Listener) {
	if !redisx.FollowsSentinel(s.client) {
		inbox.Listen(ctx, s.client, channel, s.set.Timeout, hints{l})
		return
	}
	for ctx.Err() == nil {
		connected, cancel := context.WithTimeout(ctx, nextLifetime())
		inbox.Listen(connected, s.client, channel, s.set.Timeout, hints{l})
		cancel()
	}
}

// hints reads the messages of an inbox for a Listener.
type hints struct{ Listener }

// Hear implements inbox.Listener.
func (h hints) Hear(payload string) { h.Listener.Hear(readHint(payload)) }

// readHint reads a message: "free", or the ms that are left when another waiter has asked, a blank, and the name of the
// waiter, which may contain blanks.
func readHint(payload string) Hint {
	word, name, _ := strings.Cut(payload, " ")
	if word == "free" {
		return Hint{Name: name}
	}
	ms, _ := strconv.ParseInt(word, 10, 64) // 0 otherwise: to ask too early does no harm
	return Hint{Name: name, Rechecked: true, Left: time.Duration(ms) * time.Millisecond}
}
