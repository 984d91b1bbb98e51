package notification_test

import (
	"strings"
	"testing"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

func BenchmarkPublish(b *testing.B) {
	n := newSystem(b, redistest.Start(b).Client(b))
	event := &notification.WorkflowEvent{ID: "w", Status: "s", Data: strings.Repeat("x", 200)}
	b.ReportAllocs()
	for b.Loop() {
		if err := n.Publish(b.Context(), "k", event); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPublishAndReceive(b *testing.B) {
	client := redistest.Start(b).Client(b)
	n := newSystem(b, client)
	s := subscribe(b, n, "k")
	event := &notification.WorkflowEvent{ID: "w", Status: "s", Data: strings.Repeat("x", 200)}
	b.ReportAllocs()
	for b.Loop() {
		if err := n.Publish(b.Context(), "k", event); err != nil {
			b.Fatal(err)
		}
		next(b, s)
	}
}
