package cache_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/fx"

	"github.com/compozy/cache"
	"github.com/compozy/cache/embedded"
	"github.com/compozy/cache/store"
)

// Workflow is what the example keeps.
type Workflow struct{ Step int }

// State that several processes change safely: a worker that has lost its lock cannot overwrite what the next one wrote.
func ExampleNewState() {
	app := fx.New(fx.NopLogger,
		cache.Module, embedded.Module(),
		cache.NewState[Workflow]("workflows"),
		fx.Invoke(func(lc fx.Lifecycle, flows *cache.State[Workflow], locks cache.Locker) {
			lc.Append(fx.StartHook(func(ctx context.Context) error {
				if _, err := flows.Create(ctx, "invoice-7", Workflow{Step: 1}); err != nil {
					return err // errors.Is(err, cache.ErrExists): somebody else has created it
				}
				var old int64
				for range 2 {
					err := locks.WithLock(ctx, "invoice-7", 10*time.Second, func(ctx context.Context, l cache.FencedLock) error {
						if old == 0 {
							old = l.Token()
						}
						item, err := flows.Update(ctx, "invoice-7", func(w *Workflow) error { w.Step++; return nil }, cache.WithFence(l.Token()))
						fmt.Println("step", item.Value.Step)
						return err
					})
					if err != nil {
						return err
					}
				}
				_, err := flows.Put(ctx, "invoice-7", Workflow{Step: 2}, cache.WithFence(old)) // by the first worker, late
				fmt.Println("refused:", errors.Is(err, cache.ErrFenced))
				return nil
			}))
		}),
	)
	run(app)
	// Output:
	// step 2
	// step 3
	// refused: true
}

// Values that are loaded when they are missing, once for all processes that ask.
func ExampleNewCache() {
	app := fx.New(fx.NopLogger,
		cache.Module, embedded.Module(),
		cache.NewCache[string]("users", cache.WithTTL(time.Minute), store.WithStale(time.Hour)),
		fx.Invoke(func(lc fx.Lifecycle, users *cache.StoreCache[string]) {
			lc.Append(fx.StartHook(func(ctx context.Context) error {
				for range 2 {
					item, err := users.GetOrLoadItem(ctx, "7", func(context.Context) (string, error) {
						return "Ann", nil // from the database
					})
					if err != nil {
						return err
					}
					fmt.Println(item.Value, item.Source)
				}
				return nil
			}))
		}),
	)
	run(app)
	// Output:
	// Ann loaded
	// Ann redis
}
