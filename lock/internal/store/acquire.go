package store

import (
	"context"
	"time"
)

// queueTTL is how long a queue lasts of which nobody asks any more.
const queueTTL = 3 * time.Second

// Acquire takes the lock if it is free. Unless it is granted nothing is left behind, even by a command that arrives late.
func (s *Redis) Acquire(ctx context.Context, c Claim) Reply { return s.orReap(c, s.TryAcquire(ctx, c)) }

// Enqueue takes the lock if it is free and the waiter's turn has come, and otherwise queues the waiter. Unless the lock is
// granted no key of it is left behind; the place in the queue is, until Leave.
func (s *Redis) Enqueue(ctx context.Context, c Claim, w Waiter) Reply {
	return s.orReap(c, s.TryEnqueue(ctx, c, w))
}

// orReap removes what an attempt may have left that was not granted. A refusal may be the reply to a repetition, with the
// try before it still on its way.
func (s *Redis) orReap(c Claim, r Reply) Reply {
	if r.Outcome == Failed || r.Outcome == Refused && r.Repeated {
		s.Reap(c)
	}
	return r
}

// TryAcquire is Acquire without the cleaning up.
func (s *Redis) TryAcquire(ctx context.Context, c Claim) Reply {
	number, repeated, err := s.number(ctx, s.scripts.acquire, c.Keys.taking(), c.Value, first(c.TTL))
	switch {
	case err != nil:
		return Reply{Outcome: Failed, Repeated: repeated, Err: err}
	case number > 0:
		return Reply{Outcome: Granted, Repeated: repeated, Token: number}
	default:
		return Reply{Outcome: Refused, Repeated: repeated, Wait: time.Duration(-1-number) * time.Millisecond}
	}
}

// TryEnqueue is Enqueue without the cleaning up.
func (s *Redis) TryEnqueue(ctx context.Context, c Claim, w Waiter) Reply {
	look := "0"
	if w.Recheck {
		look = "1"
	}
	reply, repeated, err := s.call(ctx, s.scripts.enqueue, c.Keys.taking(),
		c.Value, first(c.TTL), w.Name, w.Arrival, queueTTL.Milliseconds(), look)
	if err != nil {
		return Reply{Outcome: Failed, Repeated: repeated, Err: err}
	}
	numbers, err := integers(reply, 4)
	if err != nil {
		return Reply{Outcome: Failed, Repeated: repeated, Err: err}
	}
	if numbers[0] > 0 {
		return Reply{Outcome: Granted, Repeated: repeated, Token: numbers[0]}
	}
	return Reply{
		Outcome: Refused, Repeated: repeated, Wait: time.Duration(numbers[1]) * time.Millisecond,
		Ahead: numbers[2], Arrival: numbers[3],
	}
}

// first is how long a lock lasts that was just granted, ms.
func first(ttl time.Duration) int64 { return min(ttl, FirstGrant).Milliseconds() }
