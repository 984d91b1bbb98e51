package store_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/compozy/cache/store"
)

// Product is a row of a database in the examples.
type Product struct {
	Name  string `json:"name"`
	Price int    `json:"price"`
}

// startProducts returns a Cache of products.
func startProducts(opts ...store.Option) (products *store.Cache[Product], stop func()) {
	client, stopRedis := startRedis()
	s, err := store.New(client)
	if err != nil {
		panic(err)
	}
	products, err = store.NewCache[Product](s, "products", opts...)
	if err != nil {
		panic(err)
	}
	return products, func() {
		_ = s.Close(context.Background())
		stopRedis()
	}
}

// The loader runs if there is no value, once for all callers in all processes.
func ExampleCache_GetOrLoad() {
	products, stop := startProducts(store.WithTTL(10 * time.Minute))
	defer stop()
	ctx := context.Background()
	load := func(context.Context) (Product, error) {
		fmt.Println("asking the database")
		return Product{Name: "lamp", Price: 40}, nil
	}
	for range 2 {
		p, err := products.GetOrLoad(ctx, "p1", load)
		fmt.Println(p.Name, err)
	}
	// After the database has changed: nothing that is loaded right now is stored any more.
	if err := products.Delete(ctx, "p1"); err != nil {
		fmt.Println(err)
	}
	p, err := products.GetOrLoad(ctx, "p1", load)
	fmt.Println(p.Name, err)
	// Output:
	// asking the database
	// lamp <nil>
	// lamp <nil>
	// asking the database
	// lamp <nil>
}

// When the database is down, a value past its TTL is better than none. The item says that it is stale, and why.
func ExampleCache_GetOrLoadItem_stale() {
	products, stop := startProducts(
		store.WithTTL(10*time.Millisecond), store.WithJitter(0), // so that this example is short
		store.WithStale(time.Hour), store.WithSoftTimeout(2*time.Second),
	)
	defer stop()
	ctx := context.Background()
	if err := products.Set(ctx, "p1", Product{Name: "lamp", Price: 40}); err != nil {
		fmt.Println(err)
	}
	<-time.After(20 * time.Millisecond)
	item, err := products.GetOrLoadItem(ctx, "p1", func(context.Context) (Product, error) {
		return Product{}, errors.New("database is down")
	})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(item.Value.Name, item.Stale, item.Cause)
	// Output: lamp true database is down
}

// That there is no value can be remembered too, so that nobody asks the database for it again for a while.
func ExampleWithNegative() {
	products, stop := startProducts(store.WithNegative(time.Minute))
	defer stop()
	ctx := context.Background()
	for range 2 {
		_, err := products.GetOrLoad(ctx, "p2", func(context.Context) (Product, error) {
			fmt.Println("asking the database")
			return Product{}, store.ErrNotFound
		})
		fmt.Println(errors.Is(err, store.ErrNotFound))
	}
	// Output:
	// asking the database
	// true
	// true
}

// Of several keys those that are missing are loaded together.
func ExampleCache_LoadMany() {
	products, stop := startProducts()
	defer stop()
	ctx := context.Background()
	if err := products.Set(ctx, "p1", Product{Name: "lamp", Price: 40}); err != nil {
		fmt.Println(err)
	}
	found, err := products.LoadMany(ctx, []string{"p1", "p2", "p3"},
		func(_ context.Context, missing []string) (map[string]Product, error) {
			fmt.Println("asking the database for", missing)
			return map[string]Product{"p2": {Name: "desk", Price: 200}}, nil // there is no p3
		})
	fmt.Println(len(found), found["p1"].Name, found["p2"].Name, err)
	// Output:
	// asking the database for [p2 p3]
	// 2 lamp desk <nil>
}

// Products of one maker are invalidated together, however many there are.
func ExampleCache_InvalidateTag() {
	products, stop := startProducts(store.WithTTL(10*time.Minute), store.WithNear(10_000, time.Second))
	defer stop()
	ctx := context.Background()
	for _, id := range []string{"p1", "p2"} {
		load := func(context.Context) (Product, error) { return Product{Name: id}, nil }
		if _, err := products.GetOrLoad(ctx, id, load, store.WithTags("maker:7")); err != nil {
			fmt.Println(err)
		}
	}
	if err := products.InvalidateTag(ctx, "maker:7"); err != nil {
		fmt.Println(err)
	}
	found, err := products.GetMany(ctx, []string{"p1", "p2"})
	fmt.Println(len(found), err)
	// Output: 0 <nil>
}

// What was set is there for all processes, until its TTL ends or it is deleted.
func ExampleCache_Get() {
	products, stop := startProducts(store.WithTTL(10 * time.Minute))
	defer stop()
	ctx := context.Background()
	if err := products.Set(ctx, "p1", Product{Name: "lamp", Price: 40}, store.WithTTL(time.Minute)); err != nil {
		fmt.Println(err)
	}
	p, err := products.Get(ctx, "p1")
	fmt.Println(p.Name, err)
	_, err = products.Get(ctx, "p2")
	fmt.Println(errors.Is(err, store.ErrNotFound))
	// Output:
	// lamp <nil>
	// true
}

// With a near cache a value comes from the memory of the process, and is at most a second old while Redis answers.
func ExampleWithNear() {
	products, stop := startProducts(store.WithTTL(10*time.Minute), store.WithNear(10_000, time.Second), store.WithShared())
	defer stop()
	ctx := context.Background()
	if err := products.Set(ctx, "p1", Product{Name: "lamp", Price: 40}); err != nil {
		fmt.Println(err)
	}
	for { // until the connections of the near cache are up
		item, err := products.GetItem(ctx, "p1")
		if err != nil {
			fmt.Println(err)
			return
		}
		if item.Source == store.SourceNear {
			fmt.Println(item.Value.Name, "from", item.Source)
			break
		}
		<-time.After(time.Millisecond)
	}
	if err := products.Set(ctx, "p1", Product{Name: "desk", Price: 200}); err != nil { // seen at once by this process
		fmt.Println(err)
	}
	p, err := products.Get(ctx, "p1")
	fmt.Println(p.Name, err)
	// Output:
	// lamp from near
	// desk <nil>
}
