package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/compozy/cache"
)

const (
	// beatEvery is how often a process says that it is there.
	beatEvery = time.Second
	// silentAfter is after how much silence it counts as gone, forgottenAfter when it is not even shown.
	silentAfter, forgottenAfter = 3500 * time.Millisecond, 20 * time.Second
)

// Beat is what a process says of itself.
type Beat struct {
	Name    string    `json:"name"`
	PID     int       `json:"pid"`
	Workers int       `json:"workers"`
	Busy    int       `json:"busy"` // of the workers
	Done    int64     `json:"done"` // workflows
	Started time.Time `json:"started"`
	Leaving bool      `json:"leaving,omitempty"` // it stops, and says so
}

// Process is a process of the run, as this one sees it.
type Process struct {
	Beat

	Self   bool    `json:"self,omitempty"`
	Silent float64 `json:"silent"` // seconds since its last word
	Gone   bool    `json:"gone"`

	heard time.Time
}

// Presence says that this process is there, and listens who else is. It needs no more than a channel: Publish takes any
// value that is a JSON object, Handle calls a function with each. It is safe for concurrent use.
type Presence struct {
	options Options
	events  *cache.RedisNotificationSystem
	pool    *Pool
	tally   *Tally
	outage  *Outage
	diary   *Diary
	log     *zap.Logger
	started time.Time

	wg       sync.WaitGroup
	cancel   context.CancelFunc
	speaking atomic.Bool

	mu        sync.Mutex // guards the fields below
	processes map[string]*Process
	deaf      time.Time // when Redis was last seen to be down
}

// NewPresence returns one that does nothing yet.
func NewPresence(
	o Options, events *cache.RedisNotificationSystem, p *Pool, t *Tally, out *Outage, d *Diary, log *zap.Logger,
) *Presence {
	return &Presence{
		options: o, events: events, pool: p, tally: t, outage: out, diary: d, log: log, started: time.Now(), cancel: func() {},
		processes: make(map[string]*Process),
	}
}

func (p *Presence) channel() string { return "example:" + p.options.Run + ":processes" }

// Start begins to speak and to listen, until Stop.
func (p *Presence) Start(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.wg.Go(func() {
		err := cache.Handle(ctx, p.events, p.channel(), func(_ context.Context, b Beat) error {
			p.hear(b)
			return nil
		})
		if err != nil && ctx.Err() == nil && !errors.Is(err, cache.ErrNotificationsClosed) {
			p.log.Error("no longer listening to other processes", zap.Error(err))
		}
	})
	p.wg.Go(func() {
		for {
			p.say(ctx, false)
			p.miss()
			if pause(ctx, beatEvery) != nil {
				return
			}
		}
	})
}

// Stop says goodbye, as the others would think of a crash otherwise.
func (p *Presence) Stop() {
	p.cancel()
	p.wg.Wait()
	if p.outage.On() || !p.speaking.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	p.say(ctx, true)
}

// say publishes a beat. A beat that is lost does not matter, as the next one follows.
func (p *Presence) say(ctx context.Context, leaving bool) {
	began := time.Now()
	err := p.events.Publish(ctx, p.channel(), Beat{
		Name: p.options.Name, PID: os.Getpid(), Workers: p.options.Workers, Busy: p.pool.Busy(),
		Done: p.tally.Workflows.Load(), Started: p.started, Leaving: leaving,
	})
	switch {
	case err == nil:
		p.speaking.Store(true)
		p.outage.Worked(began)
	case ctx.Err() == nil:
		p.outage.Failed(err)
	}
}

// hear takes in a beat.
func (p *Presence) hear(b Beat) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.processes[b.Name]
	switch {
	case b.Leaving && known != nil:
		delete(p.processes, b.Name)
		p.diary.Addf(Copes, "Process %s has stopped in order: its locks are released, so others go on at once.", b.Name)
		return
	case b.Leaving:
		return
	case known == nil, known.PID != b.PID:
		if b.Name != p.options.Name {
			p.diary.Addf(Copes, "Process %s joins the run with %d workers.", b.Name, b.Workers)
		}
	}
	p.processes[b.Name] = &Process{Beat: b, heard: time.Now(), Self: b.Name == p.options.Name}
}

// miss marks the processes that have fallen silent. While Redis is down nobody can be heard, which says nothing about anybody.
func (p *Presence) miss() {
	away := p.outage.On()
	p.mu.Lock()
	defer p.mu.Unlock()
	if away {
		p.deaf = time.Now()
		return
	}
	for name, known := range p.processes {
		switch silent := min(time.Since(known.heard), time.Since(p.deaf)); {
		case silent > forgottenAfter:
			delete(p.processes, name)
		case silent > silentAfter && !known.Gone:
			known.Gone = true
			p.diary.Addf(Suffers, "Process %s has fallen silent. Its locks ended %.0f s after their last renewal, so that others can go on.",
				name, lockTTL.Seconds())
		}
	}
}

// Processes returns all that are known: this one, then the others by name.
func (p *Presence) Processes() []Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Process, 0, len(p.processes))
	for _, known := range p.processes {
		one := *known
		one.Silent = time.Since(known.heard).Seconds()
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Process) int {
		switch {
		case a.Self:
			return -1
		case b.Self:
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}
