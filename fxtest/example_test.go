package fxtest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"go.uber.org/fx"
	uberfxtest "go.uber.org/fx/fxtest"

	"github.com/compozy/cache"
	cachetest "github.com/compozy/cache/fxtest" // Fx has a package of the same name
	"github.com/compozy/cache/notification"
)

// Biller is what the examples test: a service that bills an order once, however
// many of its kind try.
type Biller struct {
	locks         cache.LockManager
	notifications cache.NotificationSystem
}

func NewBiller(locks cache.LockManager, notifications cache.NotificationSystem) *Biller {
	return &Biller{locks: locks, notifications: notifications}
}

func (b *Biller) Bill(ctx context.Context, order string) error {
	lock, err := b.locks.Acquire(ctx, "bill:"+order, time.Minute)
	if err != nil {
		return fmt.Errorf("billing %s: %w", order, err)
	}
	defer func() { _ = lock.Release(ctx) }()
	return b.notifications.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{ID: order, Status: "billed"})
}

// A whole application without a Redis to install.
func ExampleNew() {
	t := newT() // in a test: its *testing.T
	defer t.finish()

	var biller *Biller
	app := cachetest.New(t, fx.Provide(NewBiller), fx.Populate(&biller))

	billed := app.Notification.Subscribe(t.Context(), "workflow:*")
	if err := biller.Bill(t.Context(), "order-1"); err != nil {
		t.Fatal(err)
	}
	message := <-billed.Messages()
	fmt.Println(message.Channel)

	event, err := notification.Decode[cache.WorkflowEvent](message)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(event.ID, event.Status)
	// Output:
	// workflow:events
	// order-1 billed
}

// The same for those who build the application themselves.
func ExampleModule() {
	t := newT() // in a test: its *testing.T
	defer t.finish()

	var redis *cache.Redis
	app := uberfxtest.New(t, cachetest.Module(t), fx.Populate(&redis))
	app.RequireStart()
	defer app.RequireStop()

	fmt.Println(redis.Ping(t.Context()).Val())
	// Output: PONG
}

// Without any server: the service gets fakes.
func ExampleNewLockManager() {
	ctx := context.Background()
	locks, notifications := cachetest.NewLockManager(), cachetest.NewNotificationSystem()
	biller := NewBiller(locks, notifications)

	// Somebody else is billing.
	other, err := locks.Acquire(ctx, "bill:order-1", time.Minute)
	if err != nil {
		panic(err)
	}
	fmt.Println("refused:", errors.Is(biller.Bill(ctx, "order-1"), cache.ErrLockNotAcquired))

	// The other one loses its lock, so it is our turn.
	locks.Lose("bill:order-1")
	fmt.Println("still held by the other:", other.IsHeld())
	fmt.Println("billed:", biller.Bill(ctx, "order-1") == nil)
	fmt.Println("left locked:", locks.Held())

	// Redis cannot be reached.
	locks.Fail(errors.New("connection refused"))
	fmt.Println("refused:", errors.Is(biller.Bill(ctx, "order-2"), cache.ErrLockNotAcquired))
	// Output:
	// refused: true
	// still held by the other: false
	// billed: true
	// left locked: []
	// refused: false
}

// What waits for a lock is tested with the fake, too: it is a cache.Locker.
func ExampleLockManager_waiting() {
	ctx := context.Background()
	locks := cachetest.NewLockManager()
	other, err := locks.TryAcquire(ctx, "report", time.Minute)
	if err != nil {
		panic(err)
	}
	done := make(chan error)
	go func() { // the code under test
		done <- locks.WithLock(ctx, "report", time.Minute, func(ctx context.Context, l cache.FencedLock) error {
			fmt.Println("newer token:", l.Token() > other.Token())
			locks.Lose("report") // which happens in production: to a process that was suspended, say
			<-ctx.Done()
			return context.Cause(ctx)
		})
	}()
	for locks.Waiting("report") == 0 {
		runtime.Gosched() // in a testing/synctest bubble synctest.Wait() does it
	}
	locks.Lose("report") // the other one's, so that it is our turn
	fmt.Println("lost:", errors.Is(<-done, cache.ErrLockExpired))
	// Output:
	// newer token: true
	// lost: true
}

// The fake records what is published.
func ExampleNewNotificationSystem() {
	ctx := context.Background()
	notifications := cachetest.NewNotificationSystem()
	biller := NewBiller(cachetest.NewLockManager(), notifications)
	if err := biller.Bill(ctx, "order-1"); err != nil {
		panic(err)
	}
	for _, event := range notifications.Published() {
		fmt.Println(event.Channels, event.Workflow.Status)
	}
	// Output: [workflow:events workflow:order-1] billed
}

// In an application fakes take the place of the real ones.
func ExampleNew_fakes() {
	t := newT() // in a test: its *testing.T
	defer t.finish()

	var biller *Biller
	locks := cachetest.NewLockManager()
	cachetest.New(t, cache.ReplaceLockManager(locks), fx.Provide(NewBiller), fx.Populate(&biller))
	if err := biller.Bill(t.Context(), "order-1"); err != nil {
		t.Fatal(err)
	}
	fmt.Println(locks.Granted())
	// Output: [bill:order-1]
}
