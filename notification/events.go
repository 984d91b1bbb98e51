package notification

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/compozy/cache/internal/glob"
	"github.com/compozy/cache/notification/internal/publisher"
)

// Channels that carry every event of their kind. The channels of one workflow or task are "workflow:<ID>",
// "task:<ID>" and "task:workflow:<workflow ID>".
const (
	WorkflowEvents = "workflow:events"
	TaskEvents     = "task:events"

	workflowPrefix     = "workflow:"
	taskPrefix         = "task:"
	taskWorkflowPrefix = "task:workflow:"
)

// WorkflowEvent tells that a workflow changed.
type WorkflowEvent struct {
	ID     string `json:"id"`             // ID of the workflow; must not be empty, and be UTF-8
	Status string `json:"status"`         // free text, such as "running"; what is not UTF-8 arrives as U+FFFD
	Data   any    `json:"data,omitempty"` // anything encoding/json can write

	// EventID and Time are filled in when an event is decoded. On publishing they are ignored: the journal
	// gives the ID, the publisher's clock the time.
	EventID string    `json:"event_id,omitempty"`
	Time    time.Time `json:"time,omitzero"`
}

// TaskEvent tells that a task changed, of a workflow or on its own.
type TaskEvent struct {
	ID         string `json:"id"`             // ID of the task; must not be empty, and be UTF-8
	WorkflowID string `json:"workflow_id"`    // ID of its workflow, empty if it belongs to none; must be UTF-8
	Status     string `json:"status"`         // free text, such as "done"; what is not UTF-8 arrives as U+FFFD
	Data       any    `json:"data,omitempty"` // anything encoding/json can write

	// EventID and Time are as in WorkflowEvent.
	EventID string    `json:"event_id,omitempty"`
	Time    time.Time `json:"time,omitzero"`
}

// bare returns the event as it is marshalled: without the two fields the system itself adds, which would otherwise be in
// the payload twice.
func (e *WorkflowEvent) bare() *WorkflowEvent {
	copied := *e
	copied.EventID, copied.Time = "", time.Time{}
	return &copied
}

func (e *TaskEvent) bare() *TaskEvent {
	copied := *e
	copied.EventID, copied.Time = "", time.Time{}
	return &copied
}

func (e *WorkflowEvent) outgoing(r *publisher.Event) (v any, err error) {
	switch {
	case e == nil:
		return nil, &ArgumentError{Argument: "event", Reason: "is nil"}
	case e.ID == "":
		return nil, &ArgumentError{Argument: "event.ID", Reason: "is empty"}
	}
	if err := e.valid(); err != nil {
		return nil, err
	}
	r.To(WorkflowEvents, workflowPrefix+e.ID)
	return e.bare(), nil
}

func (e *TaskEvent) outgoing(r *publisher.Event) (v any, err error) {
	switch {
	case e == nil:
		return nil, &ArgumentError{Argument: "event", Reason: "is nil"}
	case e.ID == "":
		return nil, &ArgumentError{Argument: "event.ID", Reason: "is empty"}
	}
	if err := e.valid(); err != nil {
		return nil, err
	}
	r.To(TaskEvents, taskPrefix+e.ID)
	if e.WorkflowID != "" {
		r.To(taskWorkflowPrefix + e.WorkflowID)
	}
	return e.bare(), nil
}

// valid returns why the event's ID would not arrive as it is, or nil.
func (e *WorkflowEvent) valid() error { return validateID("event.ID", e.ID) }

func (e *TaskEvent) valid() error {
	if err := validateID("event.ID", e.ID); err != nil {
		return err
	}
	return validateID("event.WorkflowID", e.WorkflowID)
}

// validateID refuses what JSON cannot hold: encoding/json would write another ID in its place.
func validateID(argument, id string) error {
	if !utf8.ValidString(id) {
		return &ArgumentError{Argument: argument, Reason: "is not UTF-8"}
	}
	return nil
}

// validatePattern returns why a subscription to this name could never mean what its author intended.
func validatePattern(pattern string) error {
	switch {
	case pattern == "":
		return &ArgumentError{Argument: "pattern", Reason: "is empty"}
	case !glob.Complete(pattern):
		// Redis accepts it, and then matches something surprising: it is a typing error.
		return &ArgumentError{Argument: "pattern", Reason: "has an unclosed class or a backslash at its end"}
	default:
		return nil
	}
}

// Literal returns a glob that matches the text and nothing else, to be a part of a pattern: "task:" + Literal(id) + "*". It
// puts a backslash before every byte that a glob gives a meaning to, and returns other texts as they are.
func Literal(text string) string {
	if !isGlob(text) {
		return text
	}
	quoted := make([]byte, 0, 2*len(text))
	for i := range len(text) {
		if strings.IndexByte(globBytes, text[i]) >= 0 {
			quoted = append(quoted, '\\')
		}
		quoted = append(quoted, text[i])
	}
	return string(quoted)
}

// globBytes are those that make a name a glob.
const globBytes = `*?[\`

// isGlob reports whether a name is a Redis glob rather than an exact channel.
func isGlob(name string) bool { return strings.ContainsAny(name, globBytes) }
