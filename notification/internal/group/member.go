package group

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/compozy/cache/internal/redisx"
	"github.com/compozy/cache/notification/internal/journal"
)

// errNoSign is the error of an event whose last member died of it, or stalled.
var errNoSign = errors.New("notification: the last member that had the event gave no sign of life")

// ErrEnded is the error of a handler that called runtime.Goexit, as FailNow of a test does.
var ErrEnded = errors.New("notification: handler ended its goroutine")

// member takes events, has them handled, and says what became of them.
type member struct {
	set      *Settings
	ops      *ops
	commands link // for turns
	waits    link // for waiting on the server until it is woken
	journal  link // for its leader
	leader   *leader
	failing  redisx.Repeated

	running  map[string]Event // what is being handled, by its key
	finished chan finished    // with room for all of them
	wanted   chan struct{}    // asks for a wait on the server; has room for one
	woken    chan struct{}    // that has ended; has room for one
	waiting  bool             // it has not
	turns    uint64
	bytes    int    // how much to take in a turn, unless one event has more; less after a reply that did not arrive
	known    string // what the group knew of the journal at the last turn
}

// finished is an event whose handler has returned.
type finished struct {
	event  Event
	result Result
}

// Run joins the group and takes part until ctx ends or Stop is closed, and what is being handled then has come to its end.
// When ctx ends, handlers are cancelled; an event that fails then comes again at once. It returns nil then, and otherwise
// why it could not join.
func Run(ctx context.Context, set Settings) error {
	o := newOps(&set)
	m := &member{
		set: &set, ops: o, bytes: takeBytes,
		commands: link{client: set.Client, key: o.keys.progress},
		waits:    link{client: set.Client, key: o.keys.progress},
		journal:  link{client: set.Client, key: o.keys.progress, once: true},
		running:  make(map[string]Event),
		finished: make(chan finished, set.Concurrency), wanted: make(chan struct{}, 1), woken: make(chan struct{}, 1),
	}
	defer m.commands.close()
	defer m.journal.close()
	defer m.waits.close()
	m.leader = newLeader(&set, o, &m.journal)

	// The commands go on when ctx has ended: what became of the last events is still to be said.
	working, stop := context.WithCancel(redisx.Background(context.WithoutCancel(ctx)))
	defer stop()
	if err := m.join(ctx, working, true); err != nil {
		if ctx.Err() != nil || m.stopping() {
			return nil
		}
		return err
	}
	set.Ready()
	var others sync.WaitGroup
	others.Go(func() { m.wait(working) })
	others.Go(func() { m.leader.run(working) })
	err := m.work(ctx, working)
	stop()
	m.waits.close()
	m.journal.close()
	others.Wait()
	m.leave()
	return err
}

// join makes the member one of its group, which it begins if there is none. Only at first a refusal is final.
func (m *member) join(ctx, working context.Context, first bool) error {
	for attempt := 1; ; attempt++ {
		err := m.joinOnce(working, first)
		var pattern *PatternError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &pattern), first && redisx.IsReply(err) && !redisx.IsTransient(err) && !isMoved(err):
			return err
		}
		m.failing.Log(m.set.Log, zap.WarnLevel, "notification: joining a group failed",
			zap.String("group", m.set.Group), zap.Error(err))
		timer := time.NewTimer(redisx.Backoff(attempt, lowPause, highPause))
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-m.set.Stop:
		}
		timer.Stop()
		if ctx.Err() != nil || m.stopping() {
			return err
		}
	}
}

func (m *member) joinOnce(ctx context.Context, first bool) error {
	c, err := m.commands.get(ctx)
	if err != nil {
		return err
	}
	known := m.known
	if known == "" {
		if known, err = m.leader.begin(ctx, c); err != nil {
			m.commands.failed(ctx, c, err)
			return err
		}
	}
	wiped, err := wipedSince(known)
	if err != nil {
		return err
	}
	if !first {
		known = wiped
	}
	if err := m.ops.doJoin(ctx, c, known, wiped); err != nil {
		m.commands.failed(ctx, c, err)
		return err
	}
	m.leader.wake()
	return nil
}

func (m *member) stopping() bool {
	select {
	case <-m.set.Stop:
		return true
	default:
		return false
	}
}

// work takes turns until the member is to stop and nothing is being handled any more.
func (m *member) work(ctx, working context.Context) error {
	var handlers sync.WaitGroup
	defer handlers.Wait()
	idle := time.NewTimer(0) // the first turn is at once
	defer idle.Stop()
	signs := time.NewTicker(m.set.Claim / 3)
	defer signs.Stop()
	var ended []finished
	ends, stops := ctx.Done(), m.set.Stop
	for {
		stopped := ctx.Err() != nil || m.stopping()
		if stopped && len(m.running) == 0 && len(ended) == 0 {
			return nil
		}
		sign := false
		if len(ended) == 0 {
			select {
			case f := <-m.finished:
				ended = append(ended, f)
			case <-m.woken:
				m.waiting = false
			case <-idle.C:
			case <-signs.C:
				sign = true
			case <-ends:
				ends = nil
				continue
			case <-stops:
				stops = nil
				continue
			}
		}
		ended = m.collect(ended)
		room := 0
		if !stopped {
			room = m.set.Concurrency - len(m.running) + len(ended)
		}
		reply, err := m.turn(ctx, working, ended, room, sign)
		ended = nil
		if err != nil {
			return err
		}
		for _, e := range reply.events {
			m.running[e.key] = e
			handlers.Go(func() { m.begin(ctx, e) })
		}
		m.rest(idle, reply, room-len(reply.events))
	}
}

// collect returns what has ended, with what has ended meanwhile.
func (m *member) collect(ended []finished) []finished {
	for {
		select {
		case f := <-m.finished:
			ended = append(ended, f)
		default:
			return ended
		}
	}
}

// begin has an event handled, and hands in what came of that, also if the handler ends its goroutine.
func (m *member) begin(ctx context.Context, e Event) {
	f := finished{e, Result{Err: ErrEnded}}
	defer func() { m.finished <- f }()
	f.result = m.handle(ctx, e)
}

// handle has an event handled, unless it was handed out too often already and nobody can say why it failed. Where members differ
// in how often they try, another one may have failed on it: then one more attempt tells the error.
func (m *member) handle(ctx context.Context, e Event) Result {
	if e.Attempt > m.set.MaxAttempts && e.Abandoned {
		return Result{Err: errNoSign, Dead: true}
	}
	return m.set.Handle(ctx, e)
}

// rest sets when the next turn is due at the latest, and waits on the server if there is room for events.
func (m *member) rest(idle *time.Timer, reply turnReply, room int) {
	pause := idleTurn
	if reply.next >= 0 {
		pause = min(pause, reply.next+time.Millisecond)
	}
	if room <= 0 {
		pause = idleTurn // for a leader or a group that is gone; the end of a handler is the next occasion for events
	}
	idle.Reset(pause)
	if room > 0 && !m.waiting {
		m.waiting = true
		m.wanted <- struct{}{}
	}
}

// outcomeOf decides what becomes of an event.
func (m *member) outcomeOf(ctx context.Context, f finished) (o outcome, what Outcome) {
	o.id = f.event.key
	switch err := f.result.Err; {
	case err == nil:
		what = Done
	case f.result.Dead, f.event.Attempt >= m.set.MaxAttempts && ctx.Err() == nil:
		what = Dead
		o.n, o.text = int64(f.event.Attempt), shorten(err.Error())
	case ctx.Err() != nil:
		what = Back
	default:
		what = Again
		o.n = m.set.pause(f.event.Attempt).Milliseconds()
	}
	o.what = string(what)
	return o, what
}

// maxErrorText is how much of an error is kept with an event.
const maxErrorText = 1 << 10

func shorten(text string) string {
	if len(text) > maxErrorText {
		return text[:maxErrorText] + "…"
	}
	return text
}

// turn says what became of events and takes others, as often as it needs to be executed once. A group that is
// gone is made again, or joined if somebody else has made it; if one with another pattern has its name by then, that is an error. The
// reply is empty if the member stops and the server does not answer.
func (m *member) turn(ctx, working context.Context, ended []finished, room int, sign bool) (turnReply, error) {
	request := turnRequest{room: room, claim: m.set.Claim, deadCap: m.set.DeadCap}
	var settled []func()
	for _, f := range ended {
		delete(m.running, f.event.key)
		o, what := m.outcomeOf(ctx, f)
		request.outcomes = append(request.outcomes, o)
		settled = append(settled, func() { m.set.Settled(f.event, what, f.result.Err) })
	}
	if sign {
		for key := range m.running {
			request.outcomes = append(request.outcomes, outcome{what: live, id: key})
		}
	}
	m.turns++
	request.number = m.turns
	var pattern *PatternError
	var deadline time.Time // set once the member is to stop
	for attempt := 1; ; attempt++ {
		request.bytes = m.bytes
		reply, err := m.turnOnce(working, request, deadline)
		m.learn(reply, err)
		switch {
		case err == nil:
			m.failing.Over(m.set.Log, "notification: the group can be reached again", zap.String("group", m.set.Group))
			m.known = reply.known
			for _, f := range settled {
				f()
			}
			if reply.free {
				m.leader.wake()
			}
			return reply, nil
		case errors.Is(err, errGone), errors.Is(err, errRemade):
			err := m.join(ctx, working, false)
			switch {
			case err == nil:
				continue // the group may still hold these events
			case ctx.Err() == nil && !m.stopping():
				return turnReply{}, err
			}
			for _, f := range settled {
				f()
			}
			return turnReply{next: 0}, nil
		case errors.As(err, &pattern):
			return turnReply{}, err
		}
		m.failing.Log(m.set.Log, zap.WarnLevel, "notification: a group cannot be reached",
			zap.String("group", m.set.Group), zap.Error(err))
		if ctx.Err() != nil || m.stopping() {
			if deadline.IsZero() {
				deadline = time.Now().Add(stopFor)
			}
			if time.Now().After(deadline) {
				return turnReply{next: -1}, nil
			}
		}
		_ = redisx.Sleep(working, redisx.Backoff(attempt, lowPause, highPause))
	}
}

// learn makes turns take less after one whose reply did not arrive in time, as it may be too large for the connection. After
// one that filled what it asked for they take a little more again.
func (m *member) learn(reply turnReply, err error) {
	size := 0
	for i := range reply.events {
		size += len(reply.events[i].Body)
	}
	switch {
	case journal.TimedOut(err):
		m.bytes = max(1, m.bytes/4)
	case size > m.bytes/2:
		m.bytes = min(m.bytes+m.bytes/8+1, takeBytes)
	}
}

// turnOnce is one attempt at a turn, which ends at the deadline unless that is zero.
func (m *member) turnOnce(ctx context.Context, request turnRequest, deadline time.Time) (turnReply, error) {
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	c, err := m.commands.get(ctx)
	if err != nil {
		return turnReply{}, err
	}
	reply, err := m.ops.doTurn(ctx, c, request)
	if err != nil {
		m.commands.failed(ctx, c, err)
	}
	return reply, err
}

// wait waits on the server each time that is wanted, until somebody is woken or a while has passed.
func (m *member) wait(ctx context.Context) {
	for {
		select {
		case <-m.wanted:
		case <-ctx.Done():
			return
		}
		err := m.waitOnce(ctx)
		if err != nil && !errors.Is(err, redis.Nil) {
			_ = redisx.Sleep(ctx, highPause) // turns notice by themselves, and say so
		}
		m.woken <- struct{}{}
	}
}

func (m *member) waitOnce(ctx context.Context) error {
	c, err := m.waits.get(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*idleTurn)
	defer cancel()
	if err = c.BLPop(ctx, idleTurn, m.ops.keys.wake).Err(); err != nil && !errors.Is(err, redis.Nil) {
		m.waits.failed(ctx, c, err)
	}
	return err
}

// leave lets others lead, and wakes one of them for what the member has not done. A group that is gone is made again, or joined,
// as after any turn: this member may be the last one that knows of the loss. There is one attempt at each.
func (m *member) leave() {
	ctx, cancel := context.WithTimeout(redisx.Background(context.Background()), stopFor)
	defer cancel()
	m.turns++
	_, err := m.turnOnce(ctx, turnRequest{
		number: m.turns, claim: m.set.Claim, deadCap: m.set.DeadCap, outcomes: []outcome{{what: resign}},
	}, time.Time{})
	if errors.Is(err, errGone) || errors.Is(err, errRemade) {
		err = m.joinOnce(ctx, false)
	}
	if err != nil {
		m.set.Log.Debug("notification: leaving a group failed", zap.String("group", m.set.Group), zap.Error(err))
	}
}

// isMoved reports whether a node of a cluster sends one elsewhere.
func isMoved(err error) bool {
	return redis.HasErrorPrefix(err, "MOVED") || redis.HasErrorPrefix(err, "ASK")
}

// String keeps fmt from reading what is changing.
func (m *member) String() string { return fmt.Sprintf("member of group %q", m.set.Group) }
