package notification_test

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/cache/notification"
)

// inProcess returns a system on an in-process server, and what to do at the end. Programs use a client of their own.
func inProcess() (*notification.RedisNotificationSystem, func()) {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	system, err := notification.NewRedisNotificationSystem(client)
	if err != nil {
		panic(err)
	}
	return system, func() {
		_ = system.Close()
		_ = client.Close()
		server.Close()
	}
}

func Example() {
	system, stop := inProcess()
	defer stop()
	ctx := context.Background()

	// One subscription to everything about workflows. The event goes to two of its channels and arrives once.
	workflows := system.Subscribe(ctx, "workflow:*")
	defer func() { _ = workflows.Close() }()
	if err := system.PublishWorkflowEvent(ctx, &notification.WorkflowEvent{ID: "42", Status: "running"}); err != nil {
		fmt.Println(err)
	}
	event, err := notification.Decode[notification.WorkflowEvent](<-workflows.Messages())
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(event.ID, event.Status)
	// Output: 42 running
}

func ExampleRedisNotificationSystem_Publish() {
	system, stop := inProcess()
	defer stop()
	ctx := context.Background()

	type price struct {
		Symbol string  `json:"symbol"`
		Value  float64 `json:"value"`
	}
	prices := system.Subscribe(ctx, "prices")
	if err := system.Publish(ctx, "prices", price{"ACME", 12.5}); err != nil {
		fmt.Println(err)
	}
	p, err := notification.Decode[price](<-prices.Messages())
	fmt.Println(p, err)
	// Output: {ACME 12.5} <nil>
}

func ExampleRedisNotificationSystem_PublishBatch() {
	system, stop := inProcess()
	defer stop()
	err := system.PublishBatch(context.Background(),
		&notification.WorkflowEvent{ID: "42", Status: "running"},
		&notification.TaskEvent{ID: "1", WorkflowID: "42", Status: "running"},
		notification.To("audit", map[string]string{"who": "me"}),
	)
	fmt.Println(err, system.GetMetrics().MessagesPublished)
	// Output: <nil> 3
}

func ExampleHandle() {
	system, stop := inProcess()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	done := make(chan error)
	go func() {
		done <- notification.Handle(ctx, system, "task:*", func(_ context.Context, e notification.TaskEvent) error {
			fmt.Println("handled", e.ID, e.Status)
			cancel() // ends Handle
			return nil
		})
	}()
	// What is published before Handle has subscribed is not for it.
	for system.GetMetrics().Subscribers == 0 || system.HealthCheck(ctx) != nil {
		runtime.Gosched()
	}
	if err := system.PublishTaskEvent(context.Background(), &notification.TaskEvent{ID: "2", WorkflowID: "42", Status: "done"}); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-done)
	// Output:
	// handled 2 done
	// <nil>
}

func ExampleRedisNotificationSystem_SubscribeFrom() {
	system, stop := inProcess()
	defer stop()
	ctx := context.Background()

	for _, status := range []string{"running", "paused", "done"} {
		if err := system.PublishWorkflowEvent(ctx, &notification.WorkflowEvent{ID: "42", Status: status}); err != nil {
			fmt.Println(err)
		}
	}
	// The first run of a program handles one event and remembers its ID.
	first := system.SubscribeFrom(ctx, "workflow:42", "")
	handled := (<-first.Messages()).EventID
	_ = first.Close()
	// The next run goes on behind it.
	second := system.SubscribeFrom(ctx, "workflow:42", handled)
	defer func() { _ = second.Close() }()
	for range 2 {
		event, err := notification.Decode[notification.WorkflowEvent](<-second.Messages())
		fmt.Println(event.Status, err)
	}
	// Output:
	// paused <nil>
	// done <nil>
}

func ExampleRedisNotificationSystem_Replay() {
	system, stop := inProcess()
	defer stop()
	ctx := context.Background()

	for _, id := range []string{"1", "2", "3"} {
		if err := system.PublishWorkflowEvent(ctx, &notification.WorkflowEvent{ID: id, Status: "done"}); err != nil {
			fmt.Println(err)
		}
	}
	for m, err := range system.Replay(ctx, "workflow:[12]", "", "") {
		if err != nil {
			fmt.Println(err)
		}
		fmt.Println(m.Channel)
	}
	// Output:
	// workflow:1
	// workflow:2
}

func ExampleSubscription_Gaps() {
	system, stop := inProcess()
	defer stop()

	// An ID the journal knows nothing of: whether events followed it, nobody can tell.
	s := system.SubscribeFrom(context.Background(), "workflow:*", "99999999999999-0")
	defer func() { _ = s.Close() }()
	gap := <-s.Gaps()
	fmt.Println(gap.Reason, "after", gap.After)
	// Output: trimmed after 99999999999999-0
}
