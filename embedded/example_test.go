package embedded_test

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/fx"

	"github.com/compozy/cache"
	"github.com/compozy/cache/embedded"
)

// An application that brings its Redis along.
func ExampleModule() {
	var client *cache.Redis
	app := fx.New(cache.Module, embedded.Module(), fx.Populate(&client), fx.NopLogger)

	ctx := context.Background()
	if err := app.Start(ctx); err != nil {
		panic(err)
	}
	client.Set(ctx, "greeting", "hello", time.Minute)
	fmt.Println(client.Get(ctx, "greeting").Val())
	if err := app.Stop(ctx); err != nil {
		panic(err)
	}
	// Output: hello
}

// The same without Fx.
func ExampleNew() {
	server := embedded.New()
	defer server.Close()

	ctx := context.Background()
	c, err := cache.SetupCache(ctx, server.Config())
	if err != nil {
		panic(err)
	}
	defer c.Close()

	lock, err := c.LockManager.Acquire(ctx, "order-1", time.Minute)
	if err != nil {
		panic(err)
	}
	fmt.Println(lock.Resource(), lock.IsHeld())
	fmt.Println(lock.Release(ctx))
	// Output:
	// order-1 true
	// <nil>
}

// Other programs reach the server by TCP.
func ExampleServer_Start() {
	server := embedded.New()
	defer server.Close()
	if err := server.Start(context.Background()); err != nil {
		panic(err)
	}
	client, err := cache.NewRedis(context.Background(), &cache.Config{URL: server.URL()})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	fmt.Println(client.Ping(context.Background()).Val())
	// Output: PONG
}
