package main

import (
	"context"
	"fmt"
	"time"

	"github.com/compozy/cache"
)

// EventType says what happened.
type EventType string

// The events of a workflow, and of its tasks, that is its steps.
const (
	WorkflowStarted EventType = "started"
	WorkflowResumed EventType = "resumed" // taken over from a worker that stopped or died
	WorkflowDone    EventType = "completed"
	StepDone        EventType = "step done"
	StepFailed      EventType = "step failed" // and is tried again
)

// Event is one change of a workflow. It travels as the Data of a cache.WorkflowEvent or cache.TaskEvent.
type Event struct {
	Run      string    `json:"run"`
	Workflow string    `json:"workflow"`
	Kind     string    `json:"kind"`
	Seq      int64     `json:"seq"` // 1, 2, 3, … within the workflow
	Type     EventType `json:"type"`
	Status   Status    `json:"status"`
	// Step, StepIndex and Attempt belong to step events. Attempt counts failures, the one told included.
	Step      string    `json:"step,omitempty"`
	StepIndex int       `json:"step_index"`
	Attempt   int       `json:"attempt"`
	Worker    string    `json:"worker"`
	Token     int64     `json:"token"`
	Customer  string    `json:"customer,omitempty"`
	At        time.Time `json:"at"`
}

// isTask tells the two kinds of event apart.
func (e Event) isTask() bool { return e.Type == StepDone || e.Type == StepFailed }

// publish sends the event to whoever is subscribed, in one round trip.
func publish(ctx context.Context, events cache.NotificationSystem, e Event) error {
	if e.isTask() {
		return events.PublishTaskEvent(ctx, &cache.TaskEvent{
			ID: fmt.Sprintf("%s.%s", e.Workflow, e.Step), WorkflowID: e.Workflow, Status: string(e.Type), Data: e,
		})
	}
	return events.PublishWorkflowEvent(ctx, &cache.WorkflowEvent{
		ID: e.Workflow, Status: string(e.Type), Data: e,
	})
}

// received reads an event back. Other programs, and other runs of this one, may publish on the same channels: of
// those it returns false.
func received(m *cache.Message, run string) (Event, bool) {
	wrapped, err := cache.Decode[struct {
		Data Event `json:"data"`
	}](m)
	if err != nil || wrapped.Data.Run != run || wrapped.Data.Seq == 0 {
		return Event{}, false
	}
	return wrapped.Data, true
}
