package lock

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxInline is how many callers may use a connection by themselves at the same time.
	maxInline = 5
	// inlineTime is how long they try, and by how much the end of a caller's context may go unnoticed when a near
	// node suddenly hangs.
	inlineTime = 200 * time.Millisecond
)

// startInline begins a call by the caller's goroutine. The caller holds mu.
func (b *batcher) startInline(r *round) *inlineCall {
	deadline := time.Now().Add(inlineTime)
	if r.deadline.Before(deadline) {
		deadline = r.deadline
	}
	if end, ok := r.ctx.Deadline(); ok && r.quit != nil && end.Before(deadline) {
		deadline = end
	}
	c := &inlineCall{Context: r.ctx, deadline: deadline}
	if last := len(b.ends) - 1; last >= 0 {
		c.end, b.ends = b.ends[last], b.ends[:last]
	} else {
		c.end = make(chan struct{})
	}
	b.inline = append(b.inline, c)
	b.alarm.set(deadline)
	return c
}

// processInline makes the call.
func (b *batcher) processInline(c *inlineCall, call call) (any, error) {
	cmd := call.command(c)
	start := time.Now()
	err := errNoAnswer
	defer func() { b.landed(c, time.Since(start), err) }() // also if a hook of the client panics
	err = b.node.client.Process(c, once{cmd})
	if err != nil {
		return nil, err
	}
	return call.script.reply(cmd)
}

// landed ends a call that took so long and ended so.
func (b *batcher) landed(c *inlineCall, took time.Duration, err error) {
	var reply redis.Error
	b.mu.Lock()
	defer b.mu.Unlock()
	b.near = took < nearTime && (err == nil || errors.As(err, &reply))
	b.inline = slices.DeleteFunc(b.inline, func(other *inlineCall) bool { return other == c })
	if !c.ended {
		b.ends = append(b.ends, c.end)
	}
}

// inlineCall is a call under way, and its context: that carries what the caller's carries, and ends with the deadline
// only. context.WithDeadline would do, but a timer that comes and goes with each call wakes a thread each time, for
// some 5µs.
type inlineCall struct {
	context.Context //nolint:containedctx // it is one itself

	deadline time.Time
	end      chan struct{}
	ended    bool // end is closed; guarded by batcher.mu
}

// Deadline implements context.Context.
func (c *inlineCall) Deadline() (time.Time, bool) { return c.deadline, true }

// Done implements context.Context.
func (c *inlineCall) Done() <-chan struct{} { return c.end }

// Err implements context.Context.
func (c *inlineCall) Err() error {
	select {
	case <-c.end:
		return context.DeadlineExceeded
	default:
		return nil
	}
}
