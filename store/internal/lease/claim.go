package lease

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/compozy/cache/store/internal/entry"
	"github.com/compozy/cache/store/internal/wake"
)

const (
	// maxSpread is by how much those who look whether a lease has run out are spread.
	maxSpread = 50 * time.Millisecond
	// minRecheck is how soon they look at the earliest.
	minRecheck = 10 * time.Millisecond
)

// Claim is one process' interest in a lease. It is for one goroutine, and must be closed.
type Claim struct {
	leases *Leases
	keys   Keys
	token  string
	known  int64
	waiter *waiter
	asked  time.Time // last
}

// Claim returns a Claim for the lease on a value. known is a version that is to be replaced although it is fresh, 0 for none.
func (l *Leases) Claim(k Keys, known int64) *Claim {
	return &Claim{leases: l, keys: k, token: entry.NewID(), known: known, waiter: l.inbox.enter(k.Lease)}
}

// Replace has the version of a value that is fresh replaced.
func (c *Claim) Replace(version int64) { c.known = version }

// Close ends the interest. A lease that was granted stays.
func (c *Claim) Close() { c.leases.inbox.leave(c.waiter) }

// Ask asks for the lease.
func (c *Claim) Ask(ctx context.Context) Answer {
	c.leases.inbox.ready(ctx)
	c.waiter.clear()
	c.asked = time.Now()
	reply, err := c.leases.run(ctx, c.asking())
	return c.answer(reply, err)
}

// AskMany asks for several leases in one round trip to each master, or in as many as there are 500, and returns the answers in
// the same order. Those that were granted are renewed from then on.
func (l *Leases) AskMany(ctx context.Context, claims []*Claim) []Answer {
	l.inbox.ready(ctx)
	calls, answers, returned := make([]call, len(claims)), make([]Answer, len(claims)), false
	defer func() {
		if returned {
			return
		}
		for _, a := range answers { // a hook of the client panics
			if a.Lease != nil {
				a.Lease.Abandon()
			}
		}
	}()
	for i, c := range claims {
		c.waiter.clear()
		c.asked = time.Now()
		calls[i] = c.asking()
	}
	l.runMany(ctx, l.set.Runner.Ask, calls, func(i int, reply []any, err error) { answers[i] = claims[i].answer(reply, err) })
	returned = true
	return answers
}

func (c *Claim) asking() call {
	return c.keys.call(c.leases.scripts.lease,
		c.token, TTL.Milliseconds(), c.leases.inbox.channel, c.known, string(c.keys.Codec),
	)
}

func (c *Claim) answer(reply []any, err error) Answer {
	if err != nil {
		return Answer{Err: err}
	}
	switch {
	case reply[0] == "fresh" && len(reply) == 3:
		raw, ok1 := reply[1].(string)
		now, ok2 := reply[2].(int64)
		if ok1 && ok2 {
			return Answer{Outcome: Fresh, Raw: []byte(raw), Now: now, AsOf: c.asked}
		}
	case reply[0] == "granted":
		return Answer{Outcome: Granted, Lease: c.leases.renewals.hold(c.keys, c.token, c.asked)}
	case reply[0] == "failed" && len(reply) == 3:
		why, ok1 := reply[1].(string)
		ms, ok2 := reply[2].(int64)
		if ok1 && ok2 {
			return Answer{Outcome: Refused, Failure: parseFailure(why), Left: milliseconds(ms)}
		}
	case reply[0] == "busy" && len(reply) == 4:
		holder, ok1 := reply[1].(string)
		ms, ok2 := reply[2].(int64)
		now, ok3 := reply[3].(int64)
		if ok1 && ok2 && ok3 {
			return Answer{Outcome: Busy, holder: holder, Left: milliseconds(ms), Now: now}
		}
	case reply[0] == "foreign":
		return Answer{Outcome: Foreign}
	}
	return Answer{Err: errUnexpected}
}

func milliseconds(ms int64) time.Duration { return time.Duration(max(ms, 0)) * time.Millisecond }

// Await waits for the end of a lease that is busy and returns what came of it: what its holder has stored, its failure, or
// another answer to Ask. It is Busy only if once is set and the lease has run out, or Unknown if ctx ends.
func (c *Claim) Await(ctx context.Context, busy Answer, once bool) Answer {
	c.waiter.setWaits(true)
	defer c.waiter.setWaits(false)
	for busy.Outcome == Busy {
		timer := time.NewTimer(max(busy.Left, minRecheck) + rand.N(maxSpread))
		answer, heard := c.listen(ctx, busy, timer.C)
		timer.Stop()
		switch {
		case heard && answer.Outcome != Unknown:
			return answer
		case ctx.Err() != nil:
			return Answer{Err: context.Cause(ctx)}
		case once && !heard:
			return busy
		}
		busy = c.Ask(ctx)
	}
	return busy
}

// listen waits for a message about the holder of a busy lease. heard says that there was one; the answer is Unknown if it does
// not contain what has become of the lease.
func (c *Claim) listen(ctx context.Context, busy Answer, over <-chan time.Time) (answer Answer, heard bool) {
	for {
		select {
		case <-ctx.Done():
			return Answer{}, false
		case <-over:
			return Answer{}, false
		case <-c.waiter.signal:
		}
		messages, missed := c.waiter.take()
		for _, m := range messages {
			if m.Token == busy.holder { // what comes late from earlier holders says nothing
				return c.understand(m, busy), true
			}
		}
		if missed {
			return Answer{}, true
		}
	}
}

// understand returns what a message says about the holder that was busy. Its value was stored by the very holder that this
// claim waits for, after it had asked: how long after that says the server's clock.
func (c *Claim) understand(m wake.Message, busy Answer) Answer {
	asOf := c.asked.Add(time.Duration(m.Now-busy.Now) * time.Microsecond)
	switch {
	case m.Word == wake.Filled && m.Body != "":
		return Answer{Outcome: Fresh, Raw: []byte(m.Body), Now: m.Now, AsOf: asOf}
	case m.Word == wake.Failed:
		if f := parseFailure(m.Body); f.Class != Gone {
			return Answer{Outcome: Refused, Failure: f, AsOf: asOf}
		}
	}
	return Answer{} // to be asked for
}
