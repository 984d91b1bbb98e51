package store_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/lock"
	"github.com/compozy/cache/store"
)

// startRedis returns a client of an in-process server; any other client will do.
func startRedis() (client *redis.Client, stop func()) {
	server := embedded.New()
	client = redis.NewClient(&redis.Options{Dialer: server.Dial, ContextTimeoutEnabled: true})
	return client, func() {
		_ = client.Close()
		_ = server.Close()
	}
}

// Workflow is the state of a workflow in the examples.
type Workflow struct {
	Status string   `json:"status"`
	Done   []string `json:"done,omitempty"`
}

// startWorkflows returns a State of workflows.
func startWorkflows() (workflows *store.State[Workflow], client *redis.Client, stop func()) {
	client, stopRedis := startRedis()
	s, err := store.New(client)
	if err != nil {
		panic(err)
	}
	workflows, err = store.NewState[Workflow](s, "workflows")
	if err != nil {
		panic(err)
	}
	return workflows, client, func() {
		_ = s.Close(context.Background())
		stopRedis()
	}
}

// Typed values are written and read.
func Example() {
	client, stop := startRedis()
	defer stop()
	ctx := context.Background()
	s, err := store.New(client)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close(ctx) }()
	workflows, err := store.NewState[Workflow](s, "workflows")
	if err != nil {
		fmt.Println(err)
		return
	}

	_, err = workflows.Get(ctx, "invoice-7")
	fmt.Println("not found:", errors.Is(err, store.ErrNotFound))
	version, err := workflows.Put(ctx, "invoice-7", Workflow{Status: "running"}, store.WithTTL(24*time.Hour))
	if err != nil {
		fmt.Println(err)
		return
	}
	item, err := workflows.Get(ctx, "invoice-7")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(item.Value.Status, item.Version == version)
	// Output:
	// not found: true
	// running true
}

// Compare and set: two editors do not overwrite each other.
func ExampleIfVersion() {
	workflows, _, stop := startWorkflows()
	defer stop()
	ctx := context.Background()
	version, err := workflows.Put(ctx, "invoice-7", Workflow{Status: "running"})
	if err != nil {
		fmt.Println(err)
		return
	}

	// Both editors have read this version.
	_, err = workflows.Put(ctx, "invoice-7", Workflow{Status: "paused"}, store.IfVersion(version))
	fmt.Println("first:", err)
	_, err = workflows.Put(ctx, "invoice-7", Workflow{Status: "cancelled"}, store.IfVersion(version))
	if conflict, ok := errors.AsType[*store.ConflictError[Workflow]](err); ok {
		fmt.Println("second: it is", conflict.Current.Value.Status, "by now")
	}
	// Output:
	// first: <nil>
	// second: it is paused by now
}

// Compare and set, until it succeeds.
func ExampleState_Update() {
	workflows, _, stop := startWorkflows()
	defer stop()
	ctx := context.Background()
	if _, err := workflows.Create(ctx, "invoice-7", Workflow{Status: "running"}); err != nil {
		fmt.Println(err)
		return
	}
	for _, step := range []string{"fetch", "print"} {
		item, err := workflows.Update(ctx, "invoice-7", func(w *Workflow) error {
			w.Done = append(w.Done, step)
			return nil
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(item.Value.Done)
	}
	// Output:
	// [fetch]
	// [fetch print]
}

// A worker that has lost its lock cannot overwrite what the next holder has written.
func ExampleWithFence() {
	workflows, client, stop := startWorkflows()
	defer stop()
	ctx := context.Background()
	locks, err := lock.NewRedisLockManager(client)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = locks.Close(ctx) }()

	first, err := locks.TryAcquire(ctx, "invoice-7", time.Minute)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = first.Release(ctx) // or it was lost while the worker was busy
	second, err := locks.TryAcquire(ctx, "invoice-7", time.Minute)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = workflows.Put(ctx, "invoice-7", Workflow{Status: "done"}, store.WithFence(second.Token()))
	fmt.Println("second:", err)
	_, err = workflows.Put(ctx, "invoice-7", Workflow{Status: "running"}, store.WithFence(first.Token()))
	fmt.Println("first is fenced off:", errors.Is(err, store.ErrFenced))
	// Output:
	// second: <nil>
	// first is fenced off: true
}

// A request that comes twice is handled once, and both get the same answer.
func ExampleState_Create() {
	client, stop := startRedis()
	defer stop()
	ctx := context.Background()
	s, err := store.New(client)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close(ctx) }()
	type payment struct{ Receipt string }
	payments, err := store.NewState[payment](s, "payments", store.WithTTL(24*time.Hour))
	if err != nil {
		fmt.Println(err)
		return
	}

	handle := func(requestID string) string {
		version, err := payments.Create(ctx, requestID, payment{})
		var earlier *store.ConflictError[payment]
		switch {
		case errors.As(err, &earlier) && earlier.Current.Value.Receipt == "":
			return "in progress"
		case errors.As(err, &earlier):
			return earlier.Current.Value.Receipt
		case err != nil:
			return err.Error() // ErrUncertain as well: the request was not handled, or is marked as in progress
		}
		done := payment{Receipt: "receipt 1"} // the payment is made here
		if _, err := payments.Put(ctx, requestID, done, store.IfVersion(version)); err != nil {
			return err.Error()
		}
		return done.Receipt
	}
	fmt.Println(handle("request-1"))
	fmt.Println(handle("request-1"))
	// Output:
	// receipt 1
	// receipt 1
}

// All values whose keys begin alike.
func ExampleState_List() {
	workflows, _, stop := startWorkflows()
	defer stop()
	ctx := context.Background()
	for _, key := range []string{"invoice-7", "invoice-8", "order-1"} {
		if _, err := workflows.Put(ctx, key, Workflow{Status: "running"}); err != nil {
			fmt.Println(err)
			return
		}
	}
	for item, err := range workflows.List(ctx, "invoice-") {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(item.Key, item.Value.Status)
	}
	// Unordered output:
	// invoice-7 running
	// invoice-8 running
}
