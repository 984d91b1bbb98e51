package main

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

const (
	// shown is how many workflows and how many events a picture has at most.
	shown = 24
	// remembered is how many finished workflows the board keeps, so that it does not grow in a long run.
	remembered = 200
)

// Picture is all that a page shows of a run, at one moment. It is made from events only, so it looks the same
// whichever process shows it.
type Picture struct {
	Run     string    `json:"run"`
	Process string    `json:"process"`
	Started time.Time `json:"started"` // of this process
	Now     time.Time `json:"now"`
	Total   int       `json:"total"` // 0 if the run has no end

	Running   int   `json:"running"`
	Done      int   `json:"done"`
	Retries   int   `json:"retries"`
	Takeovers int   `json:"takeovers"`
	Lost      int   `json:"lost"`       // were running when Redis lost its data
	LockWaits int64 `json:"lock_waits"` // of this process
	Published int64 `json:"published"`  // by this process
	Received  int   `json:"received"`
	Refused   int64 `json:"refused"`  // results of this process that came after its lock was lost
	Repeated  int   `json:"repeated"` // received more than once
	Gaps      int   `json:"gaps"`     // times the subscription said that it may have missed something

	Workflows []Card  `json:"workflows"` // those that changed last come first
	Events    []Event `json:"events"`    // the latest first
}

// Card is one workflow as a page shows it.
type Card struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Status  Status    `json:"status"`
	Steps   []string  `json:"steps"`
	Done    int       `json:"done"` // how many of Steps are
	Attempt int       `json:"attempt"`
	Worker  string    `json:"worker"`
	Changed time.Time `json:"changed"`
	// Customer is whom it is for, "" if that is not known yet.
	Customer string `json:"customer,omitempty"`
	// Seq is the number of the latest event, which need not have come last.
	Seq int64 `json:"seq"`

	since int64          // number of the last event before this process was there
	seen  map[int64]bool // numbers of the events that came
}

// Share returns how much of the work is done, in percent.
func (p Picture) Share() int {
	if p.Total == 0 {
		return 0
	}
	return 100 * p.Done / p.Total
}

// Board keeps the picture up to date. It is safe for concurrent use.
type Board struct {
	tally *Tally

	mu      sync.Mutex // guards the fields below
	picture Picture    // but for Workflows, which are made from cards when somebody looks
	cards   map[string]*Card
}

// NewBoard returns an empty board.
func NewBoard(o Options, t *Tally) *Board {
	return &Board{
		tally: t,
		picture: Picture{
			Run: o.Run, Process: o.Name, Started: time.Now(), Total: o.Workflows,
			Events: []Event{}, // and no null in the JSON
		},
		cards: make(map[string]*Card),
	}
}

// Seed puts a workflow on the board that was begun before this process was there.
func (b *Board) Seed(w Workflow) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.Seq == 0 || b.cards[w.ID] != nil {
		return
	}
	c := b.card(w.ID, w.Kind)
	c.Status, c.Done, c.Attempt, c.Worker, c.Changed = w.Status, w.Step, w.Attempt, w.Worker, w.UpdatedAt
	c.since, c.Seq, c.Customer = w.Seq, w.Seq, w.Customer
	b.count("", w.Status)
	b.picture.Retries += w.Retries
	b.picture.Takeovers += w.Takeovers
}

// Apply takes in an event. Events may come in any order, and twice.
func (b *Board) Apply(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.picture.Received++
	c := b.card(e.Workflow, e.Kind)
	if c.seen[e.Seq] {
		b.picture.Repeated++
		return
	}
	c.seen[e.Seq] = true
	if e.Seq <= c.since {
		return // Seed has counted it
	}
	b.picture.Events = slices.Insert(b.picture.Events, 0, e)
	b.picture.Events = b.picture.Events[:min(len(b.picture.Events), shown)]
	switch e.Type {
	case StepFailed:
		b.picture.Retries++
	case WorkflowResumed:
		b.picture.Takeovers++
	case WorkflowStarted, WorkflowDone, StepDone:
	}

	if e.Seq <= c.Seq {
		return // a later event is here already
	}
	b.count(c.Status, e.Status)
	c.Customer = cmp.Or(e.Customer, c.Customer)
	c.Seq, c.Status, c.Worker, c.Attempt, c.Changed = e.Seq, e.Status, e.Worker, e.Attempt, e.At
	c.Done = e.StepIndex
	if e.Type == StepDone || e.Type == WorkflowDone {
		c.Done, c.Attempt = e.StepIndex+1, 0
	}
	if c.Status == Done {
		b.forget()
	}
}

// Heard counts events that are not about a workflow.
func (b *Board) Heard(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.picture.Received += n
}

// Gap notes that events may be missing.
func (b *Board) Gap() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.picture.Gaps++
}

// Wiped notes that Redis has lost its data: nobody is going to finish what was running. A workflow that is in Redis
// all the same comes back to the board with its next event.
func (b *Board) Wiped() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, c := range b.cards {
		if c.Status == Running {
			b.count(Running, "")
			b.picture.Lost++
			delete(b.cards, id)
		}
	}
}

// Picture returns the state of things now. The caller may keep it.
func (b *Board) Picture() Picture {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.picture
	p.Now = time.Now()
	p.LockWaits, p.Published, p.Refused = b.tally.LockWaits.Load(), b.tally.Published.Load(), b.tally.Refused.Load()
	p.Events = slices.Clone(p.Events)
	p.Workflows = make([]Card, 0, len(b.cards))
	for _, c := range b.latest() {
		p.Workflows = append(p.Workflows, *c) // Steps is never changed, so it can be shared
	}
	p.Workflows = p.Workflows[:min(len(p.Workflows), shown)]
	return p
}

// card returns the card of a workflow, a new one if need be. b.mu is held.
func (b *Board) card(id, kind string) *Card {
	c := b.cards[id]
	if c == nil {
		c = &Card{ID: id, Kind: kind, Steps: stepNames(kind), seen: make(map[int64]bool)}
		b.cards[id] = c
	}
	return c
}

// count moves a workflow from one status to another. b.mu is held.
func (b *Board) count(from, to Status) {
	for status, by := range map[Status]int{from: -1, to: +1} {
		if from == to {
			continue
		}
		switch status {
		case Running:
			b.picture.Running += by
		case Done:
			b.picture.Done += by
		case Waiting:
		}
	}
}

// latest returns all cards: running ones first, then those that changed last. b.mu is held.
func (b *Board) latest() []*Card {
	cards := make([]*Card, 0, len(b.cards))
	for _, c := range b.cards {
		cards = append(cards, c)
	}
	slices.SortFunc(cards, func(x, y *Card) int {
		if (x.Status == Done) != (y.Status == Done) {
			if x.Status == Done {
				return 1
			}
			return -1
		}
		return cmp.Or(y.Changed.Compare(x.Changed), cmp.Compare(x.ID, y.ID))
	})
	return cards
}

// forget drops the oldest finished workflows. b.mu is held.
func (b *Board) forget() {
	if len(b.cards) <= 2*remembered {
		return
	}
	for _, c := range b.latest()[remembered:] {
		if c.Status == Done {
			delete(b.cards, c.ID)
		}
	}
}

func stepNames(kind string) []string {
	var names []string
	for _, s := range steps(kind) {
		names = append(names, s.Name)
	}
	return names
}
