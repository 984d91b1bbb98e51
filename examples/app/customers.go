package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/fx"

	"github.com/compozy/cache"
	"github.com/compozy/cache/store"
)

// Customer is whom a workflow is for.
type Customer struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// customerCache provides the cache. A value is fresh for some seconds, so that there is something to see; then one process
// loads it again for all. Should that fail or take long, a stale one is good enough for another minute.
func customerCache() fx.Option {
	return cache.NewCache[Customer]("customers",
		cache.WithTTL(4*time.Second),
		store.WithStale(time.Minute),
		store.WithSoftTimeout(200*time.Millisecond))
}

var errNoDatabase = errors.New("the database of the customers does not answer")

// Customers knows whom workflows are for. The slow database behind the cache is played. It is safe for concurrent use.
type Customers struct {
	cache *cache.StoreCache[Customer]
	diary *Diary

	mu     sync.Mutex // guards the fields below
	broken time.Time  // until when the database fails
	stale  time.Time  // when a stale customer was last served
}

// NewCustomers returns the customers of all runs.
func NewCustomers(c *cache.StoreCache[Customer], d *Diary) *Customers {
	return &Customers{cache: c, diary: d}
}

// Of returns whom a workflow is for. Nothing waits for Redis here: without it the loader runs.
func (c *Customers) Of(ctx context.Context, workflow string) (Customer, error) {
	names := customerNames()
	n := int(pick("customer", workflow)) % len(names)
	id := fmt.Sprintf("c%02d", n)
	item, err := c.cache.GetOrLoadItem(ctx, id, func(ctx context.Context) (Customer, error) {
		return c.load(ctx, id, names[n])
	})
	if item.Stale {
		c.served(item.Age)
	}
	return item.Value, err
}

// customerNames has the name of each customer.
func customerNames() []string {
	return []string{"Ada", "Bela", "Chidi", "Dora", "Emil", "Femi", "Greta", "Hugo", "Ines", "Jonas"}
}

// load asks the database.
func (c *Customers) load(ctx context.Context, id, name string) (Customer, error) {
	if err := pause(ctx, time.Duration(10+rand.IntN(40))*time.Millisecond); err != nil {
		return Customer{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.broken) {
		return Customer{}, errNoDatabase
	}
	return Customer{ID: id, Name: name}, nil
}

// Break makes the database fail for that long.
func (c *Customers) Break(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = time.Now().Add(d)
}

// served tells of a stale customer, once for all of an outage.
func (c *Customers) served(age time.Duration) {
	c.mu.Lock()
	first := time.Since(c.stale) > sameThing
	c.stale = time.Now()
	c.mu.Unlock()
	if first {
		c.diary.Addf(Copes, "A customer cannot be loaded in time. The cache serves the one it has, which is %.0f s old, and marks it as stale.", age.Seconds())
	}
}
