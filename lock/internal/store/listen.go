package store

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// pingAfter is how long an inbox may be silent before it is asked whether it lives, and how long it may take to
	// answer. go-redis alone does not notice a half-open connection.
	pingAfter = 3 * time.Second
	// minReconnectDelay and maxReconnectDelay bound the pause before an inbox connects again.
	minReconnectDelay = 20 * time.Millisecond
	maxReconnectDelay = time.Second
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

// Listen reads an inbox until ctx ends, and connects again whenever the connection fails.
func (s *Redis) Listen(ctx context.Context, channel string, l Listener) {
	ctx = redisx.Background(ctx)
	for failures := 1; ; failures++ {
		err := s.session(ctx, channel, l, func() {
			failures = 0
			l.Up()
		})
		if ctx.Err() != nil {
			return
		}
		l.Down(err)
		if redisx.Sleep(ctx, redisx.Backoff(failures, minReconnectDelay, maxReconnectDelay)) != nil {
			return
		}
	}
}

// session subscribes and reads until the connection fails.
func (s *Redis) session(ctx context.Context, channel string, l Listener, up func()) error {
	pubsub := s.client.Subscribe(ctx)
	detach := context.AfterFunc(ctx, func() { _ = pubsub.Close() })
	defer func() {
		if detach() {
			_ = pubsub.Close()
		}
	}()
	limited := func(call func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, s.set.Timeout)
		defer cancel()
		return call(ctx)
	}
	if err := limited(func(ctx context.Context) error { return pubsub.Subscribe(ctx, channel) }); err != nil {
		return err
	}
	pinged := false
	for {
		msg, err := pubsub.ReceiveTimeout(ctx, pingAfter)
		var timeout net.Error
		switch {
		case err == nil:
			pinged = false
		case errors.As(err, &timeout) && timeout.Timeout() && !pinged:
			pinged = true
			if err := limited(func(ctx context.Context) error { return pubsub.Ping(ctx) }); err != nil {
				return err
			}
			continue
		default:
			return err
		}
		switch msg := msg.(type) {
		case *redis.Subscription:
			up()
		case *redis.Message:
			l.Hear(readHint(msg.Payload))
		}
	}
}

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
