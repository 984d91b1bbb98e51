// Command quickstart is the file to read first: a lock, a value that only its holder may write, and an event.
//
//	go run ./examples/quickstart # on a server inside the process, or on that of REDIS_URL
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/compozy/cache"
	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/store"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	var cfg *cache.Config // nil is what the environment says
	if os.Getenv("REDIS_URL") == "" {
		server := embedded.New()
		defer func() { _ = server.Close() }()
		cfg = server.Config()
	}
	c, err := cache.SetupCache(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	invoices, err := store.NewState[string](c.Store, "invoices", store.WithTTL(time.Minute))
	if err != nil {
		return err
	}
	heard := c.Notification.Subscribe(ctx, "workflow:invoice-7")
	var token int64
	err = c.Locker.WithLock(ctx, "invoice-7", 10*time.Second, func(ctx context.Context, l cache.FencedLock) error {
		fmt.Fprintln(out, "holding the lock of", l.Resource())
		token = l.Token() // larger than that of every holder before
		_, err := invoices.Put(ctx, "invoice-7", "paid", cache.WithFence(token))
		return errors.Join(err, c.Notification.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: "invoice-7", Status: "paid"}))
	})
	if err != nil {
		return err
	}
	event, err := cache.Decode[cache.WorkflowEvent](<-heard.Messages())
	fmt.Fprintf(out, "received: %s is %s\n", event.ID, event.Status)
	_, late := invoices.Put(ctx, "invoice-7", "unpaid", cache.WithFence(token-1)) // with the token of an earlier holder
	fmt.Fprintln(out, "a late writer is refused:", errors.Is(late, cache.ErrFenced))
	return err
}
