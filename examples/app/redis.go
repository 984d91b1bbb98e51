package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/compozy/cache"
	"github.com/compozy/cache/config"
	"github.com/compozy/cache/embedded"
)

// buffered is how many events may wait for the watcher. It prints each, and a terminal can be slow.
const buffered = 4096

// server is the Redis that this process uses.
type server struct {
	Config *cache.Config
	About  string // for people: without credentials
	Close  func() error

	// Embedded is the server if it is in this process, else nil. URL leads other processes to it.
	Embedded *embedded.Server
	URL      string
}

// chooseServer takes the server that the environment names, or else starts one inside this process.
func chooseServer(ctx context.Context) (*server, error) {
	named := func(variable string) bool { return os.Getenv(variable) != "" }
	if slices.ContainsFunc([]string{"REDIS_URL", "REDIS_HOST", "REDIS_ADDRS"}, named) {
		cfg, err := config.Load(ctx, "")
		if err != nil {
			return nil, err
		}
		cfg.NotificationBufferSize = max(cfg.NotificationBufferSize, buffered)
		return &server{Config: cfg, About: "from the environment", Close: func() error { return nil }}, nil
	}

	redis := embedded.New()
	if err := redis.Start(ctx); err != nil { // the port is for helpers and curious people, this process does not need it
		return nil, fmt.Errorf("embedded redis: %w", err)
	}
	cfg := redis.Config()
	cfg.NotificationBufferSize = buffered
	about := fmt.Sprintf("embedded, nothing is kept; to look inside or to join: %s", redis.URL())
	return &server{Config: cfg, About: about, Close: redis.Close, Embedded: redis, URL: redis.URL()}, nil
}
