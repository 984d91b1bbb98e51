package notification_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/compozy/cache/notification"
)

// Two workers of one group share the work; what fails comes again.
func ExampleConsume() {
	n, stop := inProcess()
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	ready, handled := make(chan struct{}, 2), make(chan string)
	for range 2 {
		go func() {
			_ = notification.Consume(ctx, n, "mailers", notification.WorkflowEvents,
				func(ctx context.Context, e notification.WorkflowEvent) error {
					if e.ID == "2" && notification.AttemptFrom(ctx) == 1 {
						return errors.New("the mail server is busy")
					}
					handled <- fmt.Sprintf("mail about workflow %s, attempt %d", e.ID, notification.AttemptFrom(ctx))
					return nil
				},
				notification.WithReady(func() { ready <- struct{}{} }),
				notification.WithBackoff(10*time.Millisecond, time.Minute))
		}()
	}
	<-ready
	<-ready
	for _, id := range []string{"1", "2"} {
		if err := n.PublishWorkflowEvent(ctx, &notification.WorkflowEvent{ID: id, Status: "done"}); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(<-handled)
	fmt.Println(<-handled)
	cancel()
	// Output:
	// mail about workflow 1, attempt 1
	// mail about workflow 2, attempt 2
}
