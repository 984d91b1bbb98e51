package notification

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification/internal/journal"
)

// How often full buffers are looked at: receiving from a Go channel wakes nobody. One that is emptied quickly is looked at
// often, and others the less often the more there are.
const (
	minCatchUpPause = 50 * time.Microsecond
	maxCatchUpPause = 100 * time.Millisecond
	quickly         = 2 * time.Millisecond
	perFull         = 2 * time.Microsecond
)

// catchup reads the journal for all subscriptions that are behind, in one goroutine: each part once, for everybody who needs
// it. A subscription whose buffer is full stays where it is until it has room.
type catchup struct {
	frontier  *frontier
	reader    partReader
	ring      *ring
	prefix    string        // of channels in the journal
	beatSoon  func() uint64 // asks for a heartbeat
	recovered func()        // called when the last of those that a cut has set back has caught up, or has no room
	metrics   *metrics
	log       *zap.Logger
	fresh     atomic.Int64 // events read for the first time in this recovery

	poke chan struct{}

	mu   sync.Mutex
	subs map[*Subscription]struct{}
	owed map[*Subscription]struct{} // of those, the ones that a cut has set back

	// Only the goroutine touches what follows.
	full       map[*Subscription]struct{} // those without room
	look       time.Time                  // when to look at them again
	pause      time.Duration              // until then
	parts      parts
	messages   messages
	generation uint64           // of the parts
	hand       journal.Position // where it has read last: it goes on from there, and then begins again
	kept       stretches        // the events it has remembered
	rounds     uint64
	failing    bool // which was logged
}

func newCatchup(f *frontier, reader partReader, remembered *ring) *catchup {
	return &catchup{
		frontier: f, reader: reader, ring: remembered, poke: make(chan struct{}, 1), subs: make(map[*Subscription]struct{}),
		owed: make(map[*Subscription]struct{}), full: make(map[*Subscription]struct{}),
		messages: messages{made: make(map[shared]weak.Pointer[Message]), most: minShared},
	}
}

// partReader is a *journal.Reader.
type partReader interface {
	After(ctx context.Context, on journal.Server, at journal.Position) (journal.Part, error)
}

// add takes over subscriptions that have just become behind. A recovery waits for those that are owed.
func (c *catchup) add(owed bool, subs ...*Subscription) {
	if len(subs) == 0 {
		return
	}
	c.mu.Lock()
	for _, s := range subs {
		c.subs[s] = struct{}{}
		if owed {
			c.owed[s] = struct{}{}
		}
	}
	c.mu.Unlock()
	c.wake()
}

func (c *catchup) wake() {
	select {
	case c.poke <- struct{}{}:
	default:
	}
}

// done forgets a subscription that is live, unless it has just fallen behind again.
func (c *catchup) done(s *Subscription) {
	c.mu.Lock()
	if !s.isBehind() {
		delete(c.subs, s)
	}
	c.mu.Unlock()
	c.settle(s)
}

// settle makes a recovery wait no longer for a subscription.
func (c *catchup) settle(s *Subscription) {
	c.mu.Lock()
	_, owed := c.owed[s]
	delete(c.owed, s)
	last := owed && len(c.owed) == 0
	c.mu.Unlock()
	if last {
		c.recovered()
	}
}

// waits reports whether a recovery waits for somebody.
func (c *catchup) waits() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.owed) > 0
}

// work makes rounds until ctx ends, with pauses that grow while nobody gets further.
func (c *catchup) work(ctx context.Context) {
	pause := minCatchUpPause
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		waiting, progress := c.round(ctx)
		if progress {
			pause = minCatchUpPause
			continue
		}
		wait := time.Hour
		if waiting {
			wait = pause
			pause = min(2*pause, maxCatchUpPause)
		}
		switch {
		case len(c.full) > 0:
			wait = min(wait, time.Until(c.look))
		case !waiting && c.parts != nil:
			wait = keepParts
		}
		timer.Reset(wait)
		select {
		case <-c.poke:
			pause = minCatchUpPause
		case <-timer.C:
			if wait == keepParts {
				c.parts = nil
				c.messages.clean()
			}
		case <-ctx.Done():
		}
	}
}

// round serves those that find what they need in memory, and reads one part for the others. It reports whether one is
// waiting that has room or may soon have some, and whether any got further.
func (c *catchup) round(ctx context.Context) (waiting, progress bool) {
	c.rounds++
	here, generation := c.frontier.at()
	if c.generation != generation {
		c.generation, c.parts = generation, nil
		c.kept = c.kept.upTo(c.frontier.renewed())
	}
	inside := make(map[*part][]*Subscription)
	var outside []*Subscription
	var from []journal.Position
	ready, waiting := c.ready()
	for _, s := range ready {
		at, _, gone := s.needs()
		if gone || here.session != nil && s.caughtUp(generation) {
			c.done(s)
			progress = true
			continue
		}
		waiting = true
		if p := c.parts.find(at, here.upTo()); p != nil {
			inside[p] = append(inside[p], s)
		} else {
			outside, from = append(outside, s), append(from, at)
		}
	}
	if here.session == nil {
		return waiting, progress // what is in memory may be about to change
	}
	for p, subs := range inside {
		progress = c.serve(p, subs, here.upTo()) || progress
	}
	if len(outside) == 0 || progress && c.parts.full() {
		return waiting, progress
	}
	at := c.next(from)
	p, err := c.read(ctx, here, at)
	switch {
	case err != nil:
		return waiting, c.failed(err, outside, from, at, here) || progress
	case p == nil:
		return waiting, progress
	}
	c.hand = p.to
	c.parts = c.parts.add(p)
	return waiting, c.serve(p, outside, here.upTo()) || progress
}

// ready returns the subscriptions that have room, and whether others may soon have some.
func (c *catchup) ready() (subs []*Subscription, soon bool) {
	c.mu.Lock()
	subs = slices.Collect(maps.Keys(c.subs))
	c.mu.Unlock()
	var quick []*Subscription
	now := time.Now()
	all := !now.Before(c.look)
	if all {
		subs = slices.AppendSeq(subs, maps.Keys(c.full))
		clear(c.full)
	}
	before := len(subs)
	subs = slices.DeleteFunc(subs, func(s *Subscription) bool {
		_, room, gone := s.needs()
		switch {
		case room || gone:
			s.fullSince = time.Time{}
			return false
		case s.fullSince.IsZero():
			s.fullSince = now
			s.isFull()
		}
		c.settle(s) // a recovery waits for none of these
		if now.Sub(s.fullSince) < quickly {
			quick = append(quick, s)
		} else {
			c.full[s] = struct{}{}
		}
		return true
	})
	c.mu.Lock()
	for s := range c.full {
		delete(c.subs, s)
	}
	for _, s := range slices.Concat(subs, quick) {
		c.subs[s] = struct{}{}
	}
	c.mu.Unlock()
	if all {
		c.pause *= 2
		if before > len(c.full) {
			c.pause = 0
		}
		c.pause = min(max(c.pause, quickly, time.Duration(len(c.full))*perFull), maxCatchUpPause)
		c.look = now.Add(c.pause)
	}
	return subs, len(quick) > 0
}

// next returns where to read next: like a lift, in one direction past all that wait, and then again from the beginning.
func (c *catchup) next(from []journal.Position) journal.Position {
	lowest, ahead := journal.End(), journal.End()
	for _, at := range from {
		if at.Less(lowest) {
			lowest = at
		}
		if !at.Less(c.hand) && at.Less(ahead) {
			ahead = at
		}
	}
	if ahead != journal.End() {
		return ahead
	}
	return lowest
}

// read returns the part behind a position. It is nil if that is of another journal than the connection's.
func (c *catchup) read(ctx context.Context, here place, at journal.Position) (*part, error) {
	read, err := c.reader.After(ctx, journal.Server{Client: here.session.Client}, at)
	if err != nil {
		return nil, err
	}
	c.failing = false
	if here.epoch != "" && read.Epoch != here.epoch {
		c.beatSoon() // it makes the dispatcher see that
		return nil, nil
	}
	return newPart(&read, at, here.limit, c.generation), nil
}

// failed handles a part that could not be read. It reports whether those that needed it go on without.
func (c *catchup) failed(err error, subs []*Subscription, from []journal.Position, at journal.Position, here place) bool {
	select {
	case <-here.session.Done():
		return false // it was the connection's fault
	default:
	}
	level := zap.WarnLevel
	if c.failing {
		level = zap.DebugLevel
	}
	c.failing = true
	c.log.Log(level, "notification: reading the journal failed", zap.Error(err))
	if !permanent(err) {
		return false
	}
	for i, s := range subs {
		if from[i] == at || !errors.Is(err, journal.ErrUnreadable) {
			s.goWithout(here.limit)
			c.done(s)
		}
	}
	return true
}

// permanent reports whether asking the server again would give the same error.
func permanent(err error) bool {
	if errors.Is(err, journal.ErrUnreadable) {
		return true
	}
	if !redisx.IsReply(err) || redisx.IsTransient(err) {
		return false
	}
	// Two nodes of a cluster may send a client to and fro for a moment, and a password may be changed on one side first.
	for _, passing := range []string{"MOVED", "ASK", "NOAUTH", "WRONGPASS", "NOSCRIPT"} {
		if redis.HasErrorPrefix(err, passing) {
			return false
		}
	}
	return true
}

// audience are the subscriptions to one name that a part is given to.
type audience struct {
	topic *topic
	subs  []*Subscription
	done  int // number of the last entry given to them
}

// serve gives the events of a part, as far as the connection has come, to subscriptions that are in it. It reports whether
// any got further.
func (c *catchup) serve(p *part, subs []*Subscription, limit journal.Position) (progress bool) {
	audiences, index := make(map[*topic]*audience), names[*audience]{}
	first := len(p.entries)
	for _, s := range subs {
		s.verify(p)
		at, _, gone := s.needs()
		if gone || !p.has(at, limit) && at != p.to {
			continue
		}
		s.follows(p)
		first = min(first, p.behind(at))
		g := audiences[s.topic]
		if g == nil {
			g = &audience{topic: s.topic}
			audiences[s.topic] = g
			index.add(s.name, g)
		}
		g.subs = append(g.subs, s)
	}
	to := p.to
	if limit.Less(to) {
		to = limit
	}
	for i := first; i < len(p.entries); i++ {
		e := &p.entries[i]
		if to.Less(e.Pos) {
			break
		}
		isNew := c.remember(p, i)
		for _, channel := range e.Channels {
			channel, ours := strings.CutPrefix(channel, c.prefix)
			if !ours {
				continue
			}
			index.match(channel, func(g *audience) {
				if g.done == i+1 {
					return // on another of its channels
				}
				g.done = i + 1
				if isNew {
					isNew = false
					c.metrics.arrived(time.Since(e.Time))
				}
				progress = c.give(g, p, i, channel) || progress
			})
		}
	}
	p.used = c.rounds
	for _, g := range audiences {
		for _, s := range g.subs {
			progress = s.reach(p, to) || progress
			if s.caughtUp(p.generation) {
				c.done(s)
				progress = true
			}
		}
	}
	return progress
}

// give gives one entry to the subscriptions of an audience. Those that have no room for it leave it. It reports whether
// any got further.
func (c *catchup) give(g *audience, p *part, entry int, channel string) (progress bool) {
	var shared *Message // made for the first that has room for it
	message := func() *Message {
		if shared == nil {
			shared = c.messages.of(p, entry, g.topic, channel)
		}
		return shared
	}
	g.subs = slices.DeleteFunc(g.subs, func(s *Subscription) bool {
		moved, room := s.take(p, &p.entries[entry], message)
		progress = progress || moved
		return !room
	})
	return progress
}

// remember notes what the connection may not have brought but subscriptions get. It reports whether it is read for the first
// time: others may have read what is further ahead before.
func (c *catchup) remember(p *part, entry int) bool {
	e := &p.entries[entry]
	if c.kept.have(e.Pos) || c.frontier.generation.Load() != p.generation {
		return false // nobody gets it, if it is of another generation
	}
	before := p.from
	if entry > 0 {
		before = p.entries[entry-1].Pos
	}
	c.kept = c.kept.add(stretch{before, e.Pos})
	c.fresh.Add(1)
	c.ring.add(&e.Envelope)
	return true
}
