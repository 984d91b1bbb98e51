package store

import (
	"context"
	"time"
)

// queueTTL is how long a queue lasts of which nobody asks any more.
const queueTTL = 3 * time.Second

// Acquire takes the lock if it is free. Unless it is granted nothing is left behind, even by a command that arrives late.
func (s *Redis) Acquire(ctx context.Context, c Claim) Reply {
	number, repeated, err := s.number(ctx, call{s.scripts.acquire, c.Keys.taking(), []any{c.Value, first(c.TTL)}})
	switch {
	case err != nil:
		return s.reaping(c, Reply{Outcome: Failed, Repeated: repeated, Err: err})
	case number > 0:
		return Reply{Outcome: Granted, Repeated: repeated, Token: number}
	default:
		return s.reaping(c, Reply{Outcome: Refused, Repeated: repeated, Wait: time.Duration(-1-number) * time.Millisecond})
	}
}

// Enqueue takes the lock if it is free and the waiter's turn has come, and otherwise queues the waiter. Unless the lock is
// granted no key of it is left behind; the place in the queue is, until Leave.
func (s *Redis) Enqueue(ctx context.Context, c Claim, w Waiter) Reply {
	look := "0"
	if w.Recheck {
		look = "1"
	}
	args := []any{c.Value, first(c.TTL), w.Name, w.Arrival, queueTTL.Milliseconds(), look}
	reply, repeated, err := s.run(ctx, call{s.scripts.enqueue, c.Keys.taking(), args})
	var numbers []int64
	if err == nil {
		numbers, err = integers(reply, 4)
	}
	switch {
	case err != nil:
		return s.reaping(c, Reply{Outcome: Failed, Repeated: repeated, Err: err})
	case numbers[0] > 0:
		return Reply{Outcome: Granted, Repeated: repeated, Token: numbers[0]}
	default:
		return s.reaping(c, Reply{
			Outcome: Refused, Repeated: repeated, Wait: time.Duration(numbers[1]) * time.Millisecond,
			Ahead: numbers[2], Arrival: numbers[3],
		})
	}
}

// first is how long a lock lasts that was just granted, ms.
func first(ttl time.Duration) int64 { return min(ttl, FirstGrant).Milliseconds() }

// Release frees the lock and lets the first waiter know. After a failure the lock is removed in the background.
func (s *Redis) Release(ctx context.Context, c Claim) Reply {
	number, repeated, err := s.number(ctx, s.scripts.releasing(c, s.set.Reservation))
	switch {
	case err != nil:
		return s.reaping(c, Reply{Outcome: Failed, Repeated: repeated, Err: err})
	case number > 0, repeated: // the try whose reply was lost may have released it, and the next one have it already
		return s.reaping(c, Reply{Outcome: Granted, Repeated: repeated, PassedOn: number == 2})
	case number == 0:
		return Reply{Outcome: Refused}
	default:
		return Reply{Outcome: Absent}
	}
}

// reaping removes what an attempt to acquire a lock that was not granted, or to release one, may have left. Its reply may be
// that to a repetition, with the try before it still on its way.
func (s *Redis) reaping(c Claim, r Reply) Reply {
	if !s.set.Several && (r.Outcome == Failed || r.Repeated) {
		s.Reap(c, Unwanted)
	}
	return r
}

// ReleaseAll releases locks in pipelines, and calls done for each with its index as its reply arrives, maybe for several
// at the same time. What fails is removed in the background.
func (s *Redis) ReleaseAll(ctx context.Context, claims []Claim, done func(i int, r Reply)) {
	calls := make([]call, len(claims))
	for i, c := range claims {
		calls[i] = s.scripts.releasing(c, s.set.Reservation)
	}
	pipeline(ctx, s.client, calls, func(i int, _ int64, err error) {
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
	number, _, err := s.number(ctx, s.scripts.extending(c))
	return extended(number, err)
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
	number, _, err := s.number(ctx, call{s.scripts.raise, []string{c.Keys.Lock(), c.Keys.Fence()}, []any{c.Value, c.Token}})
	return err == nil && number == 1
}

// Inspect describes a lock.
func (s *Redis) Inspect(ctx context.Context, k Keys) (State, error) {
	reply, _, err := s.run(ctx, call{s.scripts.inspect, []string{k.Lock(), k.Fence(), k.Queue()}, nil})
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
	return State{
		Held: numbers[0] != -2, Value: value, TTL: time.Duration(max(numbers[0], 0)) * time.Millisecond,
		Token: numbers[1], Waiting: numbers[2],
	}, nil
}
