package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/compozy/cache/client"
	"github.com/compozy/cache/config"
)

// The in-memory server makes the examples run anywhere; without Dialer the client
// connects to Host and Port or to the URL.
func inMemory() (*config.Config, func()) {
	server := miniredis.NewMiniRedis()
	dial := func(context.Context, string, string) (net.Conn, error) { return server.Dial() }
	return &config.Config{Dialer: dial}, server.Close
}

// NewRedis connects and waits for the server: one call, for programs that have no
// life cycle of their own.
func ExampleNewRedis() {
	cfg, stop := inMemory()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()

	rdb, err := client.NewRedis(ctx, cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = rdb.Close() }()

	rdb.Set(ctx, "greeting", "hello", time.Minute)
	fmt.Println(rdb.Get(ctx, "greeting").Val())
	// Output: hello
}

// New does no I/O. The client connects when it is opened.
func ExampleNew() {
	cfg, stop := inMemory()
	defer stop()
	ctx := context.Background()

	rdb, err := client.New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = rdb.Close() }()
	fmt.Println(errors.Is(rdb.Ping(ctx).Err(), client.ErrNotStarted))

	rdb.Open()
	fmt.Println(rdb.WaitReady(ctx))
	// Output:
	// true
	// <nil>
}

// HealthCheck tells what is wrong.
func ExampleRedis_HealthCheck() {
	rdb, err := client.New(&config.Config{
		Host:   "redis.internal",
		Dialer: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route") },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = rdb.Close() }()
	rdb.Open()

	err = rdb.HealthCheck(context.Background())
	fmt.Println(errors.Is(err, client.ErrUnreachable), err)
	// Output: true client: server unreachable at redis.internal:6379: no route
}
