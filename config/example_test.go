package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/compozy/cache/config"
)

// A hand-written Config names only what differs from the defaults.
func ExampleConfig_WithDefaults() {
	cfg := (&config.Config{Host: "redis.internal", ReadTimeout: 500 * time.Millisecond}).WithDefaults()
	fmt.Println(cfg.Host, cfg.Port, cfg.ReadTimeout, cfg.WriteTimeout)
	// Output: redis.internal 6379 500ms 3s
}

// Zeros are meant as zeros in what Default returns.
func ExampleDefault() {
	cfg := config.Default()
	cfg.MinIdleConns = 0
	fmt.Println(cfg.WithDefaults().MinIdleConns)
	// Output: 0
}

// All bad fields are reported at once.
func ExampleConfig_Validate() {
	err := (&config.Config{Port: "http", PoolSize: -1}).Validate()
	if bad, ok := errors.AsType[*config.Error](err); ok {
		for _, f := range bad.Fields {
			fmt.Printf("%s is %s, allowed is %s\n", f.Field, f.Value, f.Allowed)
		}
	}
	// Output:
	// Port is "http", allowed is a port from 1 to 65535
	// PoolSize is -1, allowed is 1 to 100000
}

// Secrets do not print.
func ExampleConfig_String() {
	cfg := config.Config{URL: "redis://app:hunter2@redis.internal/1", SentinelPassword: "hunter2"}
	fmt.Println(cfg)
	// Output: config.Config{URL:"redis://REDACTED@redis.internal/1", SentinelPassword:"REDACTED"}
}

// In JSON a duration is text with a unit, as in the environment.
func ExampleConfig_UnmarshalJSON() {
	var cfg config.Config
	if err := json.Unmarshal([]byte(`{"host": "redis.internal", "read_timeout": "500ms"}`), &cfg); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cfg.Host, cfg.ReadTimeout)
	// Output: redis.internal 500ms
}
