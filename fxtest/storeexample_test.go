package fxtest_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	cachetest "github.com/compozy/cache/fxtest" // Fx has a package of the same name
	"github.com/compozy/cache/store"
)

// Greeter is what the example tests: a service that greets users, with names that may be old when the database is down.
type Greeter struct {
	users *store.Cache[string]
	load  func(ctx context.Context) (string, error)
}

func (g *Greeter) Greet(ctx context.Context, id string) string {
	name, err := g.users.GetOrLoad(ctx, id, g.load)
	if err != nil {
		return "Hello, stranger."
	}
	return "Hello, " + name + "."
}

// A service with a cache is tested with a real one, whose server, database and clock do what the test wants.
func ExampleNewStore() {
	t := newT() // in a test: its *testing.T
	defer t.finish()
	ctx := context.Background()

	s := cachetest.NewStore(t)
	users, err := store.NewCache[string](s.Store, "users", store.WithTTL(time.Minute), store.WithStale(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	greeter := &Greeter{users, func(context.Context) (string, error) { return "Ann", nil }}
	fmt.Println(greeter.Greet(ctx, "7"))

	s.FailLoads(errors.New("no database"))
	s.Expire(time.Minute)
	fmt.Println(greeter.Greet(ctx, "7"), "An hour more.")
	s.Expire(time.Hour)
	fmt.Println(greeter.Greet(ctx, "7"))
	// Output:
	// Hello, Ann.
	// Hello, Ann. An hour more.
	// Hello, stranger.
}
