package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/cache"
	"github.com/compozy/cache/health"
)

const (
	// pulseEvery is how often the pulse is taken, remembers how many times it is remembered.
	pulseEvery, remembers = time.Second, 120
	// rateOver is over how many of those the rates of the cache are.
	rateOver = 30
	// askPatience is how long all questions may take together.
	askPatience = 2 * time.Second
)

// Second is what happened within one second.
type Second struct {
	At     time.Time `json:"at"`
	Events int       `json:"events"`         // received by this process
	Down   bool      `json:"down,omitempty"` // the readiness report failed
	Gaps   int       `json:"gaps,omitempty"` // events may be missing here
}

// Vitals are what is known of the parts of this process, as of the last second.
type Vitals struct {
	Seconds []Second            `json:"seconds"` // the oldest first
	Locks   []HeldLock          `json:"locks"`
	Blind   bool                `json:"blind,omitempty"` // Redis could not be asked for Locks, which are older therefore
	Rates   Counters            `json:"rates"`           // of the last half minute
	Totals  Counters            `json:"totals"`
	Health  *cache.HealthReport `json:"health"`
}

// Pulse takes the vitals of this process every second, whether somebody looks or not. It is safe for concurrent use.
type Pulse struct {
	options Options
	board   *Board
	store   *Store
	pool    *Pool
	locks   *cache.RedisLockManager
	health  *cache.Health
	metrics prometheus.Gatherer
	outage  *Outage
	diary   *Diary

	wg     sync.WaitGroup
	cancel context.CancelFunc

	mu       sync.Mutex // guards the fields below
	vitals   Vitals
	counters []Counters // as of the last seconds, the oldest first
	received int        // as of the last second
	gaps     int
}

// NewPulse returns one that is not taken yet.
func NewPulse(
	o Options, b *Board, s *Store, p *Pool, locks *cache.RedisLockManager, h *cache.Health, metrics prometheus.Gatherer,
	out *Outage, d *Diary,
) *Pulse {
	return &Pulse{
		options: o, board: b, store: s, pool: p, locks: locks, health: h, metrics: metrics, outage: out, diary: d,
		cancel: func() {}, vitals: Vitals{Seconds: []Second{}, Locks: []HeldLock{}},
	}
}

// Start takes the pulse until Stop. Counting and asking are apart: while Redis hangs the questions take their time, and a
// second is a second all the same.
func (p *Pulse) Start(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.wg.Go(func() {
		seconds := time.NewTicker(pulseEvery)
		defer seconds.Stop()
		for {
			select {
			case <-seconds.C:
				p.count()
			case <-ctx.Done():
				return
			}
		}
	})
	p.wg.Go(func() {
		for {
			p.ask(ctx)
			if pause(ctx, pulseEvery) != nil {
				return
			}
		}
	})
}

// Stop may be repeated, and called without Start.
func (p *Pulse) Stop() {
	p.cancel()
	p.wg.Wait()
}

// count takes down what this process has heard within a second.
func (p *Pulse) count() {
	picture, away := p.board.Picture(), p.outage.On()
	p.mu.Lock()
	defer p.mu.Unlock()
	v := &p.vitals
	v.Seconds = append(v.Seconds, Second{
		At: picture.Now, Events: picture.Received - p.received, Gaps: picture.Gaps - p.gaps,
		Down: away || (v.Health != nil && v.Health.Status != health.OK),
	})
	v.Seconds = slices.Clone(v.Seconds[max(0, len(v.Seconds)-remembers):])
	p.received, p.gaps = picture.Received, picture.Gaps
}

// ask asks the parts of this process, and Redis about locks.
func (p *Pulse) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	report := p.health.Run(ctx, health.Readiness)
	resources := []string{p.pool.packing()}
	for _, card := range p.board.Picture().Workflows {
		if card.Status == Running {
			resources = append(resources, p.store.Resource(card.ID))
		}
	}
	held, heldErr := heldLocks(ctx, p.locks, resources)
	now, err := readCounters(p.metrics)

	p.mu.Lock()
	defer p.mu.Unlock()
	v := &p.vitals
	v.Health, v.Blind = &report, heldErr != nil
	if heldErr == nil {
		v.Locks = held
	}
	if err != nil {
		return // rather old numbers than wrong ones
	}
	if len(p.counters) > 0 {
		p.tell(now.since(p.counters[len(p.counters)-1]))
		v.Rates = now.since(p.counters[0])
	}
	v.Totals = now
	p.counters = append(p.counters, now)
	p.counters = slices.Clone(p.counters[max(0, len(p.counters)-rateOver):])
}

// tell writes into the diary what only the metrics say.
func (p *Pulse) tell(news Counters) {
	if news.Recovered > 0 {
		p.diary.Addf(Copes, "Messages that had been missed came from the journal, in order: %.0f.", news.Recovered)
	}
}

// Vitals returns what the pulse says. The caller must not change it.
func (p *Pulse) Vitals() Vitals {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.vitals
}
