package store

import (
	"context"
	"strings"
	"time"
)

// queueTTL is how long a queue lasts of which nobody asks any more.
const queueTTL = 3 * time.Second

// tries returns those of a claim on this server.
func (s *Redis) tries(c Claim) *Tries { return &c.Tries[s.set.Index] }

// Acquire takes the lock if it is free. Unless it is granted nothing is left behind, even by a command that arrives late.
func (s *Redis) Acquire(ctx context.Context, c Claim) Reply {
	return s.take(c, func(t *Tries) (Reply, bool) {
		number, lost, err := s.number(ctx, call{s.scripts.acquire, c.Keys.taking(), []any{c.Value, 0, first(c.TTL)}, t})
		switch {
		case err != nil:
			return Reply{Outcome: Failed, Err: err}, lost
		case number > 0:
			return Reply{Outcome: Granted, Token: number}, lost
		default:
			return Reply{Outcome: Refused, Wait: time.Duration(-1-number) * time.Millisecond}, lost
		}
	})
}

// Enqueue takes the lock if it is free and the waiter's turn has come, and otherwise queues the waiter. Unless the lock is
// granted no key of it is left behind; the place in the queue is, until Leave.
func (s *Redis) Enqueue(ctx context.Context, c Claim, w Waiter) Reply {
	look := "0"
	if w.Recheck {
		look = "1"
	}
	return s.take(c, func(t *Tries) (Reply, bool) {
		args := []any{c.Value, 0, first(c.TTL), w.Name, w.Arrival, queueTTL.Milliseconds(), look}
		reply, lost, err := s.run(ctx, call{s.scripts.enqueue, c.Keys.taking(), args, t})
		var numbers []int64
		if err == nil {
			numbers, err = integers(reply, 4)
		}
		switch {
		case err != nil:
			return Reply{Outcome: Failed, Err: err}, lost
		case numbers[0] > 0:
			return Reply{Outcome: Granted, Token: numbers[0]}, lost
		default:
			return Reply{
				Outcome: Refused, Wait: time.Duration(numbers[1]) * time.Millisecond, Ahead: numbers[2], Arrival: numbers[3],
			}, lost
		}
	})
}

// take tries to take the lock, and removes what it may have left. try says whether a command was lost.
func (s *Redis) take(c Claim, try func(t *Tries) (r Reply, lost bool)) (r Reply) {
	t, lost := s.tries(c), true // if a hook of the client panics
	until := time.Now().Add(min(c.TTL, FirstGrant))
	t.begin()
	defer func() {
		t.end(r.Outcome == Granted, lost, until)
		if lost && r.Outcome != Granted {
			s.reap(c)
		}
	}()
	r, lost = try(t)
	return r
}

// first is how long a lock lasts that was just granted, ms.
func first(ttl time.Duration) int64 { return min(ttl, FirstGrant).Milliseconds() }

// Release frees the lock and lets the first waiter know. After a failure the lock is removed in the background.
func (s *Redis) Release(ctx context.Context, c Claim) Reply {
	number, lost, err := s.number(ctx, s.scripts.releasing(c, s.set.Reservation))
	if err != nil || lost || s.tries(c).Stray() { // there is, or may be, something that was not released
		s.reap(c)
	}
	switch {
	case err != nil:
		return Reply{Outcome: Failed, Err: err}
	case number > 0, lost: // the try whose reply was lost may have released it, and the next one have it already
		return Reply{Outcome: Granted, PassedOn: number == 2}
	case number == 0:
		return Reply{Outcome: Refused}
	default:
		return Reply{Outcome: Absent}
	}
}

// reap removes what an attempt to acquire or to release a lock may have left.
func (s *Redis) reap(c Claim) {
	if !s.set.Several {
		s.Reap(c, Unwanted)
	}
}

// ReleaseAll releases locks in pipelines, and calls done for each with its index as its reply arrives, maybe for several
// at the same time. What fails is removed in the background.
func (s *Redis) ReleaseAll(ctx context.Context, claims []Claim, done func(i int, r Reply)) {
	calls := make([]call, len(claims))
	for i, c := range claims {
		calls[i] = s.scripts.releasing(c, s.set.Reservation)
	}
	s.pipeline(ctx, s.client, false, calls, func(i int, _ int64, err error) {
		if err != nil {
			s.Reap(claims[i], Unwanted)
			done(i, Reply{Outcome: Failed, Err: err})
			return
		}
		done(i, Reply{Outcome: Granted}) // or it was gone
	})
}

// Refresh makes a lock last for its TTL from now.
func (s *Redis) Refresh(ctx context.Context, c Claim) Reply {
	tries := s.tries(c)
	try, ok := tries.confirmed()
	if !ok {
		return Reply{Outcome: Unset}
	}
	until := time.Now().Add(c.TTL)
	number, _, err := s.number(ctx, s.scripts.extending(c, try))
	r := extended(number, err)
	tries.extended(try, r, until)
	return r
}

// extended translates what the script that extends a lock says.
func extended(number int64, err error) Reply {
	switch {
	case err != nil:
		return Reply{Outcome: Failed, Err: err}
	case number > 0:
		return Reply{Outcome: Granted}
	case number == 0:
		return Reply{Outcome: Absent}
	default:
		return Reply{Outcome: Refused}
	}
}

// Raise makes the fence at least the claim's token, and reports whether it is, and the claim holds the lock.
func (s *Redis) Raise(ctx context.Context, c Claim) bool {
	number, _, err := s.number(ctx, call{
		script: s.scripts.raise, keys: []string{c.Keys.Lock(), c.Keys.Fence()}, args: []any{c.Value, c.Token},
	})
	return err == nil && number == 1
}

// Inspect describes a lock.
func (s *Redis) Inspect(ctx context.Context, k Keys) (State, error) {
	reply, _, err := s.run(ctx, call{script: s.scripts.inspect, keys: []string{k.Lock(), k.Fence(), k.Queue()}})
	if err != nil {
		return State{}, err
	}
	list, ok := reply.([]any)
	if !ok || len(list) != 4 {
		return State{}, errUnexpected
	}
	value, ok := list[0].(string)
	numbers, err := integers(list[1:], 3)
	if err != nil || !ok {
		return State{}, errUnexpected
	}
	value, _, _ = strings.Cut(value, "#") // which try has set it is nobody's business
	return State{
		Held: numbers[0] != -2, Value: value, TTL: time.Duration(max(numbers[0], 0)) * time.Millisecond,
		Token: numbers[1], Waiting: numbers[2],
	}, nil
}
