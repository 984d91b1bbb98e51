package sse_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/compozy/cache/fxtest"
	"github.com/compozy/cache/notification"
	"github.com/compozy/cache/notification/sse"
)

// A page that shows one workflow listens with
//
//	const events = new EventSource("/workflows/42/events")
//	events.onmessage = e => show(JSON.parse(e.data))
//	events.addEventListener("gap", () => reload())
func ExampleHandler() {
	system := fxtest.NewNotificationSystem() // in a program: the one of the cache
	mux := http.NewServeMux()
	mux.Handle("GET /workflows/{id}/events", sse.Handler(system, func(r *http.Request) (string, error) {
		id := r.PathValue("id")
		if strings.ContainsAny(id, `*?[\`) { // a glob would show the workflows of others
			return "", &sse.StatusError{Status: http.StatusNotFound, Message: "no such workflow"}
		}
		return "workflow:" + id, nil
	}))
	server := httptest.NewServer(mux)
	defer server.Close()

	page, err := http.Get(server.URL + "/workflows/42/events") // returns when the stream has begun
	if err != nil {
		fmt.Println(err)
		return
	}
	defer page.Body.Close()
	err = system.PublishWorkflowEvent(context.Background(), &notification.WorkflowEvent{ID: "42", Status: "running"})
	if err != nil {
		fmt.Println(err)
	}
	if err := system.Close(); err != nil { // ends the stream
		fmt.Println(err)
	}
	for lines := bufio.NewScanner(page.Body); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			fmt.Println(name)
		}
	}
	all, err := http.Get(server.URL + "/workflows/*/events")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer all.Body.Close()
	fmt.Println(all.Status)
	// Output:
	// message
	// close
	// 404 Not Found
}
