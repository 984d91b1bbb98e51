package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Books are what the watcher keeps of a run with an end: which event of which workflow it has seen, and from whom. They
// are the second source for the verdict, beside the ledgers in Redis. Safe for concurrent use.
type Books struct {
	mu        sync.Mutex // guards the fields below
	workflows map[string]*pages
	gaps      []string
}

// pages are the books of one workflow.
type pages struct {
	since     int64           // events up to here were out before anybody listened, so they need not come
	seen      map[int64]int64 // by number of the event, the token of the worker that sent it
	completed map[int64]bool  // numbers of the events that told the end
	conflicts []string
}

// NewBooks returns empty books.
func NewBooks() *Books { return &Books{workflows: make(map[string]*pages)} }

// Open begins the books of a workflow at the event with that number: all later ones must come.
func (b *Books) Open(id string, since int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.of(id).since = since
}

// Enter takes in an event. The same event may come again, from a worker that took over and could not know that it was
// out already.
func (b *Books) Enter(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.of(e.Workflow)
	if e.Type == WorkflowDone {
		p.completed[e.Seq] = true
	}
	token, repeated := p.seen[e.Seq]
	if repeated && token != e.Token {
		// Told again, an event still has the token of the worker to whom it happened. Two tokens are two workers.
		p.conflicts = append(p.conflicts, fmt.Sprintf("event %d is told by the holders of tokens %d and %d", e.Seq, token, e.Token))
		return
	}
	p.seen[e.Seq] = e.Token
}

// Gap notes that the subscription may have missed something, and why.
func (b *Books) Gap(reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gaps = append(b.gaps, reason)
}

// Gaps returns the reasons given to Gap.
func (b *Books) Gaps() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.gaps)
}

// Missing returns the numbers of the events that should have come, up to last, and did not.
func (b *Books) Missing(id string, last int64) []int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.of(id)
	var missing []int64
	for seq := p.since + 1; seq <= last; seq++ {
		if _, ok := p.seen[seq]; !ok {
			missing = append(missing, seq)
		}
	}
	return missing
}

// Since returns the number of the last event that was out before the books were opened.
func (b *Books) Since(id string) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.of(id).since
}

// Received returns how many different events of a workflow came.
func (b *Books) Received(id string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.of(id).seen)
}

// Contradictions returns what of a workflow's events cannot be true if it ran once.
func (b *Books) Contradictions(id string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.of(id)
	found := slices.Clone(p.conflicts)
	if len(p.completed) > 1 {
		found = append(found, fmt.Sprintf("its end was told %d times, in the events %v",
			len(p.completed), slices.Sorted(maps.Keys(p.completed))))
	}
	return found
}

// of returns the pages of a workflow, new ones if need be. b.mu is held.
func (b *Books) of(id string) *pages {
	p := b.workflows[id]
	if p == nil {
		p = &pages{seen: make(map[int64]int64), completed: make(map[int64]bool)}
		b.workflows[id] = p
	}
	return p
}
