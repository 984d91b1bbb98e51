package main

import (
	"fmt"
	"hash/fnv"
	"time"

	"github.com/compozy/cache"
)

// Status is where a workflow stands.
type Status string

// What a workflow's status can be.
const (
	Waiting Status = "waiting" // nobody has begun it
	Running Status = "running" // a worker has it, or had it and died
	Done    Status = "done"
)

// maxFailures is how often one step can fail in a row: the try after that succeeds, so every workflow ends.
const maxFailures = 2

// Step is one piece of work.
type Step struct {
	Name string
	// Weight is how long it takes, as a multiple of the average step.
	Weight float64
	// AtTable says that it needs the packing table, of which there is one.
	AtTable bool
}

// steps returns what a workflow of this kind consists of, in order.
func steps(kind string) []Step {
	switch kind {
	case "order":
		return []Step{
			{Name: "reserve", Weight: 0.6}, {Name: "charge", Weight: 1.4}, {Name: "pack", Weight: 1.6, AtTable: true},
			{Name: "ship", Weight: 0.4},
		}
	case "report":
		return []Step{{Name: "collect", Weight: 1.8}, {Name: "render", Weight: 0.8}, {Name: "deliver", Weight: 0.4}}
	default:
		return []Step{{Name: "verify", Weight: 0.5}, {Name: "provision", Weight: 2}, {Name: "welcome", Weight: 0.5}}
	}
}

// kindOf gives every ID a kind, the same one in every process.
func kindOf(id string) string {
	return []string{"order", "report", "signup"}[pick("kind", id)%3]
}

// Workflow is the state of one workflow, as it stands in Redis. Its methods return the next state and touch nothing:
// what they return counts only once the store has accepted it.
type Workflow struct {
	Run    string `json:"run"`
	ID     string `json:"id"`
	Kind   string `json:"kind"`
	Status Status `json:"status"`
	// Step is the index of the step to run next, Attempt how often that step has failed so far.
	Step    int `json:"step"`
	Attempt int `json:"attempt"`
	// Token is the fencing token of the lock under which this state was written. Whoever has a smaller one has lost
	// the lock since, even if it has not noticed yet.
	Token  int64  `json:"token"`
	Worker string `json:"worker"`
	// Customer is whom it is for, as far as somebody has looked.
	Customer string `json:"customer,omitempty"`
	// Seq counts the events of this workflow. Every state has at least one event more than the one before.
	Seq int64 `json:"seq"`
	// Outbox holds the events that say how this state came about. They are published after the state was written, so
	// whoever takes over from a worker that died in between publishes them again; receivers know them by Seq.
	Outbox    []Event   `json:"outbox,omitempty"`
	Retries   int       `json:"retries"`
	Takeovers int       `json:"takeovers"` // how often another worker had to finish what one began
	UpdatedAt time.Time `json:"updated_at"`
	// Facts are the history of this state: what the store accepted, from the first claim on.
	Facts []Fact `json:"facts,omitempty"`

	// version is that of this state in Redis, or else of the one there from which it was made.
	version cache.Version
}

// newWorkflow returns a workflow that nobody has begun.
func newWorkflow(run, id string, now time.Time) Workflow {
	return Workflow{Run: run, ID: id, Kind: kindOf(id), Status: Waiting, UpdatedAt: now}
}

// Claim is what a worker does first, so that its token fences off whoever had the lock before.
func (w Workflow) Claim(worker string, token int64, now time.Time) Workflow {
	what := WorkflowStarted
	if w.Status == Running {
		what = WorkflowResumed
		w.Takeovers++
	}
	w.Status, w.Worker, w.Token = Running, worker, token
	return w.with(now, what)
}

// Fail is the state after a step that failed: the same step again.
func (w Workflow) Fail(now time.Time) Workflow {
	w.Attempt++
	w.Retries++
	return w.with(now, StepFailed)
}

// Succeed is the state after a step that succeeded: the next step, or the end.
func (w Workflow) Succeed(now time.Time) Workflow {
	events := []EventType{StepDone}
	if w.Step == len(steps(w.Kind))-1 {
		w.Status = Done
		events = append(events, WorkflowDone)
	}
	w = w.with(now, events...)
	w.Step++
	w.Attempt = 0
	return w
}

// with stamps the state and puts the events of this change, and no others, into the outbox.
func (w Workflow) with(now time.Time, what ...EventType) Workflow {
	w.UpdatedAt = now
	w.Outbox = nil // never append to what an older state shares
	for _, t := range what {
		w.Seq++
		w.Outbox = append(w.Outbox, Event{
			Run: w.Run, Workflow: w.ID, Kind: w.Kind, Seq: w.Seq, Type: t, Status: w.Status,
			Step: w.stepName(), StepIndex: w.Step, Attempt: w.Attempt, Worker: w.Worker, Token: w.Token, Customer: w.Customer, At: now,
		})
	}
	return w
}

// stepName returns the name of the step to run next, "" after the last.
func (w Workflow) stepName() string {
	if all := steps(w.Kind); w.Step < len(all) {
		return all[w.Step].Name
	}
	return ""
}

// fails decides whether a try of a step fails: always the same for the same try, whichever process makes it.
func (w Workflow) fails(rate float64) bool {
	if w.Attempt >= maxFailures {
		return false
	}
	return float64(pick("fails", w.ID, w.Step, w.Attempt)%1000) < rate*1000
}

// takes returns how long a try of the next step takes, given the average.
func (w Workflow) takes(average time.Duration) time.Duration {
	spread := 0.75 + float64(pick("takes", w.ID, w.Step, w.Attempt)%500)/1000
	return time.Duration(float64(average) * steps(w.Kind)[w.Step].Weight * spread)
}

// pick is a number that looks random and depends on nothing but its arguments.
func pick(of ...any) uint32 {
	h := fnv.New32a()
	fmt.Fprint(h, of...)
	return h.Sum32()
}
