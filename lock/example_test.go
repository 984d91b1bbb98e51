package lock_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/lock"
)

// startRedis returns a client of an in-process server; any other client will do.
func startRedis() (client *redis.Client, stop func()) {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	client = redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	return client, func() {
		_ = client.Close()
		server.Close()
	}
}

func Example() {
	client, stop := startRedis()
	defer stop()
	ctx := context.Background()
	manager, err := lock.NewRedisLockManager(client)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = manager.Close(ctx) }()

	l, err := manager.Acquire(ctx, "invoice 7", 10*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("held:", l.IsHeld())
	_, err = manager.Acquire(ctx, "invoice 7", 10*time.Second)
	fmt.Println("held by somebody:", errors.Is(err, lock.ErrLockNotAcquired))
	fmt.Println("released:", l.Release(ctx) == nil)
	// Output:
	// held: true
	// held by somebody: true
	// released: true
}

func ExampleRedisLockManager_WithLock() {
	client, stop := startRedis()
	defer stop()
	ctx := context.Background()
	manager, err := lock.NewRedisLockManager(client)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = manager.Close(ctx) }()

	err = manager.WithLock(ctx, "nightly report", 30*time.Second, func(ctx context.Context, l lock.FencedLock) error {
		// ctx ends when the lock is lost: hand it to everything that is done here.
		fmt.Println("working on", l.Resource(), ctx.Err() == nil)
		return nil
	})
	fmt.Println(err)
	// Output:
	// working on nightly report true
	// <nil>
}

func ExampleRedisLockManager_AcquireWait() {
	client, stop := startRedis()
	defer stop()
	ctx := context.Background()
	manager, err := lock.NewRedisLockManager(client)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = manager.Close(ctx) }()

	holder, err := manager.Acquire(ctx, "printer", 10*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() { _ = holder.Release(ctx) }()

	patient, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	l, err := manager.AcquireWait(patient, "printer", 10*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("my turn:", l.IsHeld())
	_ = l.Release(ctx)
	// Output: my turn: true
}

// A store that remembers the largest token refuses a writer that has lost its lock without noticing.
func ExampleRedisLock_Token() {
	client, stop := startRedis()
	defer stop()
	ctx := context.Background()
	manager, err := lock.NewRedisLockManager(client)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = manager.Close(ctx) }()

	var largest int64
	write := func(token int64) bool {
		if token < largest {
			return false
		}
		largest = token
		return true
	}
	var tokens []int64
	for range 2 {
		err := manager.WithLock(ctx, "account", time.Minute, func(_ context.Context, l lock.FencedLock) error {
			tokens = append(tokens, l.Token())
			return nil
		})
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Println("second holder writes:", write(tokens[1]))
	fmt.Println("first holder, too late:", write(tokens[0]))
	// Output:
	// second holder writes: true
	// first holder, too late: false
}

func ExampleRedisLock_Lost() {
	client, stop := startRedis()
	defer stop()
	ctx := context.Background()
	manager, err := lock.NewRedisLockManager(client)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = manager.Close(ctx) }()

	l, err := manager.AcquireWait(ctx, "job", 10*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	client.FlushAll(ctx) // somebody deletes the key
	_ = l.Refresh(ctx)   // notices it now; the next renewal would too
	<-l.Lost()
	fmt.Println(context.Cause(l.Context()))
	fmt.Println("may still write:", l.IsHeld())
	// Output:
	// lock: expired
	// may still write: false
}
