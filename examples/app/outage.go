package main

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

// Outage makes one outage of Redis one thing, however many calls fail meanwhile: the log and the diary say when it begins
// and when it is over. It is safe for concurrent use.
type Outage struct {
	log   *zap.Logger
	diary *Diary

	mu    sync.Mutex // guards the fields below
	since time.Time  // zero while all is well
	tries int        // calls that failed since
}

// NewOutage returns what says that all is well.
func NewOutage(log *zap.Logger, d *Diary) *Outage { return &Outage{log: log, diary: d} }

// Failed notes that a call failed, because of Redis or of the way to it.
func (o *Outage) Failed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tries++
	if !o.since.IsZero() {
		return
	}
	o.since = time.Now()
	o.log.Warn("redis fails, trying again until it works", zap.Error(err))
	o.diary.Addf(Suffers, "Redis does not answer. The workers pause; each lock they hold ends on time, and they learn of it before anybody else can have it.")
}

// Worked notes that a call succeeded which was begun at that time: one begun before the outage says nothing about its end.
func (o *Outage) Worked(begun time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() || begun.Before(o.since) {
		return
	}
	took := time.Since(o.since)
	o.log.Info("redis works again", zap.Duration("after", took.Round(time.Millisecond)), zap.Int("failed_calls", o.tries))
	o.diary.Addf(Copes, "Redis answers again, after %.1f s and %d failed calls. The workers go on by themselves.", took.Seconds(), o.tries)
	o.since, o.tries = time.Time{}, 0
}

// On reports whether Redis fails now.
func (o *Outage) On() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.since.IsZero()
}
