// Package inbox listens to the one channel on which a process gets messages from scripts that others run. It connects again
// whenever the connection fails, and notices one that is half open, which go-redis alone does not.
package inbox

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/internal/redisx"
)

const (
	// pingAfter is how long an inbox may be silent before it is asked whether it lives, and how long it may take to
	// answer.
	pingAfter = 3 * time.Second
	// minReconnectDelay and maxReconnectDelay bound the pause before an inbox connects again.
	minReconnectDelay = 20 * time.Millisecond
	maxReconnectDelay = time.Second
)

// Listener receives what comes through an inbox. It is safe for concurrent use.
type Listener interface {
	// Hear is called for each message.
	Hear(payload string)
	// Up is called when messages arrive from now on; earlier ones may have been lost.
	Up()
	// Down is called when messages cannot arrive, and each time that connecting fails, with the reason.
	Down(err error)
}

// Listen reads an inbox until ctx ends, and connects again whenever the connection fails. timeout bounds how long the server
// may take to accept a command.
func Listen(ctx context.Context, client redis.UniversalClient, channel string, timeout time.Duration, l Listener) {
	ctx = redisx.Background(ctx)
	s := session{client, channel, timeout, l}
	for failures := 1; ; failures++ {
		err := redisx.Isolate(func() error { // a hook of the client may panic, or end the goroutine
			return s.run(ctx, func() {
				failures = 0
				l.Up()
			})
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

// session is one connection of an inbox.
type session struct {
	client   redis.UniversalClient
	channel  string
	timeout  time.Duration
	listener Listener
}

// run subscribes and reads until the connection fails.
func (s session) run(ctx context.Context, up func()) error {
	pubsub := s.client.Subscribe(ctx)
	detach := context.AfterFunc(ctx, func() { _ = pubsub.Close() })
	defer func() {
		if detach() {
			_ = pubsub.Close()
		}
	}()
	limited := func(call func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		defer cancel()
		return call(ctx)
	}
	if err := limited(func(ctx context.Context) error { return pubsub.Subscribe(ctx, s.channel) }); err != nil {
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
			s.listener.Hear(msg.Payload)
		}
	}
}
