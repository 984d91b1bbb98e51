package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Tone says what kind of thing an entry of the diary tells.
type Tone string

// The tones.
const (
	Broke   Tone = "broke"   // somebody broke something on purpose
	Suffers Tone = "suffers" // something is not as it should be
	Copes   Tone = "copes"   // what the program, or the module under it, did about that
)

const (
	// diaryLength is how many entries are kept.
	diaryLength = 40
	// sameThing is how long after an entry one with the same words tells nothing new.
	sameThing = 3 * time.Second
)

// Entry is something worth telling.
type Entry struct {
	N    int       `json:"n"` // 1, 2, 3, …
	At   time.Time `json:"at"`
	Tone Tone      `json:"tone"`
	Text string    `json:"text"`
}

// Diary tells in words what went wrong and what was done about it. It is safe for concurrent use.
type Diary struct {
	mu      sync.Mutex // guards the fields below
	entries []Entry    // the latest first
	written int
}

// NewDiary returns an empty diary.
func NewDiary() *Diary { return &Diary{entries: []Entry{}} }

// Addf writes an entry, unless the same words were just written.
func (d *Diary) Addf(tone Tone, format string, args ...any) {
	e := Entry{At: time.Now(), Tone: tone, Text: fmt.Sprintf(format, args...)}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, known := range d.entries {
		if known.Text == e.Text && e.At.Sub(known.At) < sameThing {
			return
		}
	}
	d.written++
	e.N = d.written
	d.entries = slices.Insert(d.entries, 0, e)
	d.entries = d.entries[:min(len(d.entries), diaryLength)]
}

// Entries returns what is kept, the latest first.
func (d *Diary) Entries() []Entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.entries)
}
